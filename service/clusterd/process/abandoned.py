"""End what a worker has started, when its master cannot do it (`master/children/remains.py`).

A master that is dead cannot, and neither can one that is not the parent of the worker: it does not inherit what the
worker leaves. Without a descriptor store, systemd starts the next master only when the last process of the dead one is
gone, and sends the others no signal that ends them: a program that outlives its worker would keep the service down
until `TimeoutStopSec=` is over.
"""

import os
import signal
from contextlib import suppress
from time import monotonic

from clusterd.log import Logger
from clusterd.process.origin import command_of, origin_of
from clusterd.runtime import originals

TERM_SECONDS = 2.0
"""The time between SIGTERM and SIGKILL: as short as at a stop, because the next master waits for it."""
KILL_SECONDS = 1.0
"""How long to wait after SIGKILL. A process that is still alive then waits for a device, and cannot be ended."""
_LOOK_SECONDS = 0.05


def end_own_processes(master: int, marked: int, log: Logger, *, is_lost: bool) -> None:
    """End what this worker has started, unless `master`, for which it was forked, is alive and its parent.

    What it has started has the master's pid `marked` in its environment. A master that is lost is the parent for a
    moment more. This blocks; it is the last thing that a worker does.
    """
    is_copy = os.getpgrp() != os.getpid()  # A fork of the worker, which has started nothing of this.
    if is_copy or not (is_lost or os.getppid() != master):
        return
    asked: set[int] = set()
    kill_at = monotonic() + TERM_SECONDS
    while (left := _own_processes(marked)) and monotonic() < kill_at + KILL_SECONDS:
        is_late = monotonic() >= kill_at
        for pid in left if is_late else left - asked:
            if pid not in asked:
                log.info("ending a process that this worker leaves behind", child=pid, command=command_of(pid))
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if is_late else signal.SIGTERM)
        asked |= left
        originals.select([], [], [], _LOOK_SECONDS)


def _own_processes(marked: int) -> set[int]:
    """Those in the worker's group, or with its variables, wherever they are by now. The dead are reaped first."""
    with suppress(ChildProcessError):
        while originals.waitpid(-1, os.WNOHANG)[0]:
            pass
    worker = os.getpid()
    origins = {int(each): origin_of(int(each), marked) for each in os.listdir("/proc") if each.isdecimal()}
    return {pid for pid, of in origins.items() if worker in (of.group, of.worker) and pid != worker}

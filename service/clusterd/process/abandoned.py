"""End what a worker or an import has started, when its master cannot do it (`master/children/remains.py`).

A master that is dead cannot, and neither can one that is not the parent of the worker: it does not inherit what the
worker leaves. Without a descriptor store, systemd starts the next master only when the last process of the dead one is
gone, and sends the others no signal that ends them: a program that outlives its worker would keep the service down
until `TimeoutStopSec=` is over.
"""

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic

from clusterd.log import Logger
from clusterd.process.origin import Origin, command_of, origin_of
from clusterd.runtime import originals

TERM_SECONDS = 2.0
"""The time between SIGTERM and SIGKILL: as short as at a stop, because the next master waits for it."""
KILL_SECONDS = 1.0
"""How long to wait after SIGKILL. A process that is still alive then waits for a device, and cannot be ended."""
_LOOK_SECONDS = 0.05
_WORKER = "clusterd-w"
_OWN_NAMES = (_WORKER, "clusterd-s", "clusterd-i")
"""Of workers, of spares, and of a template that stands aside. What an import has only forked is a clusterd-t."""


def end_own_processes(master: int, marked: int, log: Logger, *, is_lost: bool) -> None:
    """End what this worker has started, unless `master`, for which it was forked, is alive and its parent.

    What it has started has the master's pid `marked` in its environment. A master that is lost is the parent for a
    moment more. This blocks; it is the last thing that a worker does.
    """
    is_copy = os.getpgrp() != os.getpid()  # A fork of the worker, which has started nothing of this.
    if is_copy or not (is_lost or os.getppid() != master):
        return
    _end(lambda: _own_processes(marked), log, "this worker")


def wait_for_workers(marked: int, generation: int, seconds: float) -> None:
    """Return when the workers of a generation have ended, or after this time. Its template calls this."""
    until = monotonic() + seconds
    with ExitStack() as opened:
        ends = originals.poll()
        waiting = 0
        for pid in _of_generation(marked, generation):
            if _name(pid).startswith(_WORKER):
                with suppress(ProcessLookupError):
                    descriptor = os.pidfd_open(pid)
                    opened.callback(os.close, descriptor)
                    ends.register(descriptor)
                    waiting += 1
        while waiting and (left := until - monotonic()) > 0:
            for descriptor, _ in ends.poll(left * 1000):
                ends.unregister(descriptor)
                waiting -= 1


def end_processes_of_generation(marked: int, generation: int, log: Logger) -> None:
    """End what an import has started, after its master has died and its workers have ended. See `end_own_processes`."""

    def left() -> set[int]:
        return {pid for pid in _of_generation(marked, generation) if not _name(pid).startswith(_OWN_NAMES)}

    _end(left, log, "this generation")


def _end(find: Callable[[], set[int]], log: Logger, owner: str) -> None:
    asked: set[int] = set()
    kill_at = monotonic() + TERM_SECONDS
    while (left := find()) and monotonic() < kill_at + KILL_SECONDS:
        is_late = monotonic() >= kill_at
        for pid in left if is_late else left - asked:
            if pid not in asked:
                log.info(f"ending a process that {owner} leaves behind", child=pid, command=command_of(pid))
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if is_late else signal.SIGTERM)
        asked |= left
        originals.select([], [], [], _LOOK_SECONDS)


def _own_processes(marked: int) -> set[int]:
    """Those in the worker's group, or with its variables, wherever they are by now."""
    worker = os.getpid()
    return {pid for pid, of in _origins(marked).items() if worker in (of.group, of.worker) and pid != worker}


def _of_generation(marked: int, generation: int) -> set[int]:
    """Without this process."""
    return {pid for pid, of in _origins(marked).items() if of.generation == generation and pid != os.getpid()}


def _origins(marked: int) -> dict[int, Origin]:
    """Of all processes, by pid. Those of this process that are dead are reaped first."""
    with suppress(ChildProcessError):
        while originals.waitpid(-1, os.WNOHANG)[0]:
            pass
    return {int(each): origin_of(int(each), marked) for each in os.listdir("/proc") if each.isdecimal()}


def _name(pid: int) -> str:
    """The name of a process (proc_pid_comm(5)), nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""

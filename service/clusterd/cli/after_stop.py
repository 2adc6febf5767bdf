"""What systemd runs after each end of a master (`ExecStopPost=`): if no other follows, it ends what is left.

`KillMode=process` has systemd leave the workers alone, so that the next master can go on with them. This program
imports little: a restart waits for it.
"""

import os
import select
import signal
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from clusterd.systemd.control_group import ControlGroup
from clusterd.systemd.stopping import has_flag, is_the_end, note_death, remove_flag

OTHERS_SECONDS = 2.0
"""The time between SIGTERM and SIGKILL for processes that are not workers."""
_LOOK_AGAIN_SECONDS = 0.5
"""A process may have forked another, which no event tells."""
_WORKER = "clusterd-w"
_CLUSTERD = "clusterd"


class Ending:
    """Ends all processes of a group: the workers drain, then the others end, and then nothing is left."""

    def __init__(self, group: ControlGroup) -> None:
        self._group = group
        self._asked: set[int] = set()
        self._foreign: set[int] = set()
        """Those that may not be ended. That needs another user, which no process of the service can become."""

    def end(self, seconds: float) -> None:
        """Return when the group is empty. The workers get this time to drain."""
        deadline = time.monotonic() + seconds
        # The application's own processes first go on: requests that are in flight may wait for one.
        while (workers := self._named(_WORKER)) and time.monotonic() < deadline:
            self._send(signal.SIGTERM, self._named(_CLUSTERD) - self._asked)
            self._wait(workers, deadline)
        # What is left of clusterd needs no more time: a template ignores SIGTERM.
        self._send(signal.SIGKILL, self._named(_CLUSTERD))
        deadline = time.monotonic() + OTHERS_SECONDS
        while (left := self._left()) and time.monotonic() < deadline:
            self._send(signal.SIGTERM, left - self._asked)
            self._wait(left, deadline)
        while left := self._left():
            self._send(signal.SIGKILL, left)
            self._wait(left, time.monotonic() + _LOOK_AGAIN_SECONDS)

    def _left(self) -> set[int]:
        return self._group.pids() - self._foreign

    def _named(self, start: str) -> set[int]:
        return {pid for pid in self._left() if name_of(pid).startswith(start)}

    def _send(self, number: signal.Signals, pids: Collection[int]) -> None:
        self._asked.update(pids)
        with ExitStack() as opened:
            found = list(open_pidfds(pids, opened))
            # By the pidfd, and only if it is of the group now: a number may have been given to another process.
            group = self._group.pids()
            for pid, descriptor in found:
                if pid in group:
                    try:
                        signal.pidfd_send_signal(descriptor, number)
                    except ProcessLookupError:
                        pass  # it has ended
                    except PermissionError:
                        self._foreign.add(pid)

    def _wait(self, pids: Collection[int], deadline: float) -> None:
        """Wait until one of the processes has ended, or until the deadline, or until it is time to look again."""
        seconds = min(_LOOK_AGAIN_SECONDS, deadline - time.monotonic())
        with ExitStack() as opened:
            poll = select.poll()
            for _, descriptor in open_pidfds(pids, opened):
                poll.register(descriptor, select.POLLIN)
            poll.poll(max(0.0, seconds) * 1000)


def open_pidfds(pids: Iterable[int], opened: ExitStack) -> Iterator[tuple[int, int]]:
    """Yield a pidfd for each process that lives, closed with `opened`. pidfd_open(2)."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        opened.callback(os.close, descriptor)
        yield pid, descriptor


def name_of(pid: int) -> str:
    """Return the name of a process (proc_pid_comm(5)), nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except OSError:
        return ""


def main() -> int:
    """Run `clusterd-after-stop SECONDS`, with the environment of ExecStopPost=. Return the exit status."""
    if len(sys.argv) != 2 or "SERVICE_RESULT" not in os.environ:
        print("systemd runs this program after clusterd (ExecStopPost=): clusterd-after-stop SECONDS", file=sys.stderr)
        return 2
    directory = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0] or None
    if is_the_end(os.environ, is_flagged=has_flag(directory)):
        group = ControlGroup.own()
        if group is not None:
            Ending(group).end(float(sys.argv[1]))
        remove_flag(directory)
    else:
        note_death(directory, os.environ)
    return 0

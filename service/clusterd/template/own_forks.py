"""The processes that a template has forked and reaps itself, because no living master is an ancestor of it.

Each is watched by a pidfd and not by SIGCHLD, which belongs to the application. No other child is reaped: what the
import has started is the application's.
"""

import os
import select
from contextlib import suppress

from clusterd.records import dataclass
from clusterd.runtime import originals
from clusterd.template.forking import ForkRefused, fork_child
from clusterd.wire.messages import LOST_STATUS, Reaped


@dataclass(frozen=True, slots=True)
class _Forked:
    serial: int
    pid: int


class OwnForks:
    """Those of this process. A process that is forked from it has to call `let_go`: they are none of its own."""

    def __init__(self) -> None:
        self._living: dict[int, _Forked] = {}
        """By pidfd."""
        self._lost: list[_Forked] = []
        """Those that had ended, and were reaped, before they could be watched."""

    def fork(self, serial: int, *, with_threads: bool) -> bool:
        """Fork a child of this process. True in the child. Raises ForkRefused."""
        try:
            reserved = os.pidfd_open(os.getpid())  # There must be a descriptor left to watch the child with.
        except OSError as error:
            raise ForkRefused(error.errno or 0) from error
        try:
            pid = fork_child(with_threads=with_threads)
        finally:
            originals.close(reserved)
        if pid == 0:
            self.let_go()
            return True
        self._watch(_Forked(serial, pid))
        return False

    def _watch(self, forked: _Forked) -> None:
        try:
            self._living[os.pidfd_open(forked.pid)] = forked
        except ProcessLookupError:
            self._lost.append(forked)

    def wait(self, channel: int) -> tuple[list[Reaped], bool]:
        """Wait until some have ended, or the descriptor `channel` can be read.

        Returns those that have ended, and whether it can be read.
        """
        ended = [Reaped(each.serial, LOST_STATUS, 0.0, each.pid) for each in self._lost]
        self._lost.clear()
        poll = originals.poll()  # Not select(2), which takes no descriptor above 1023.
        for descriptor in (channel, *self._living):
            poll.register(descriptor, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(0 if ended else None)}
        ended += [self._reap(descriptor) for descriptor in ready - {channel}]
        return ended, channel in ready

    def _reap(self, descriptor: int) -> Reaped:
        forked = self._living.pop(descriptor)
        status, cpu_seconds = LOST_STATUS, 0.0
        with suppress(ChildProcessError):
            # Its pid may belong to another process by now, unless it is still to be reaped. Only wait4(2) tells what it
            # has used of the processor, and takes no pidfd.
            os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            reaped, found, usage = os.wait4(forked.pid, os.WNOHANG)
            if reaped:
                status, cpu_seconds = found, usage.ru_utime + usage.ru_stime
        originals.close(descriptor)
        return Reaped(forked.serial, status, cpu_seconds, forked.pid)

    def let_go(self) -> None:
        """Forget all of them, in a process that has been forked from the one whose children they are."""
        for descriptor in self._living:
            originals.close(descriptor)
        self._living.clear()
        self._lost.clear()

"""Read what a process wrote about its threads, and log it as one record."""

import asyncio

from clusterd.linux.stacks import STACKS_SIGNAL, read_stacks
from clusterd.log import Logger
from clusterd.master.children import Child, Children, Kind

LOOK_EVERY_SECONDS = 0.1
LOOKS = 10


class StackReader:
    """Asks processes for their stacks, and reports those that a crash left behind."""

    def __init__(self, children: Children, loop: asyncio.AbstractEventLoop, log: Logger) -> None:
        self._children = children
        self._loop = loop
        self._log = log

    def ask(self, child: Child, why: str) -> None:
        """Have `child` write its stacks, and log them as soon as they are there."""
        if child.pid is None or child.stacks < 0:
            return
        if child.kind is Kind.TEMPLATE and not child.is_heard:
            return  # it may be no Python yet (a wrapper's shell), and the signal would kill it
        self._children.signal(child, STACKS_SIGNAL)
        self._loop.call_later(LOOK_EVERY_SECONDS, self._look, child, why, "", LOOKS)

    def report_crash(self, child: Child) -> None:
        """Log what a fatal signal made the dead `child` write."""
        if child.stacks >= 0:
            self._report(child, "stacks at its death")

    def _look(self, child: Child, why: str, seen: str, looks: int) -> None:
        """The signal handler writes bit by bit: read when two looks find the same."""
        if child.stacks < 0:
            return
        written = read_stacks(child.stacks, child.stacks_read)
        if (written and written == seen) or not looks:
            self._report(child, why)
        else:
            self._loop.call_later(LOOK_EVERY_SECONDS, self._look, child, why, written, looks - 1)

    def _report(self, child: Child, why: str) -> None:
        written = read_stacks(child.stacks, child.stacks_read)
        child.stacks_read += len(written.encode())
        if written:
            self._log.warning(f"{child.kind.value}: {why}\n{written.rstrip()}", **child.fields())

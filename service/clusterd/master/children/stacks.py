"""Read the stacks of a child process. Log them as one record, or return them to the caller."""

import asyncio
import time
from collections.abc import Callable

from clusterd.linux.stacks import STACKS_SIGNAL, forget_stacks, read_stacks
from clusterd.log import Logger
from clusterd.master.children.in_hand import listed, with_requests
from clusterd.master.children.table import Child, Children, Kind
from clusterd.wire.in_hand import Table
from clusterd.wire.messages import TellStacks

LOOK_EVERY_SECONDS = 0.1
LOOKS = 10
ANSWER_SECONDS = 0.5
"""How long a worker may take to send its stacks. After that, it is asked by a signal."""


class StackReader:
    """Asks processes for their stacks, and logs the stacks that a crash has written."""

    def __init__(
        self,
        children: Children,
        loop: asyncio.AbstractEventLoop,
        log: Logger,
        in_hand: Callable[[Child], Table],
    ) -> None:
        self._in_hand = in_hand
        self._children = children
        self._loop = loop
        self._log = log
        self._asked: dict[int, Callable[[str], None]] = {}
        self._last_number = 0

    def tell(self, worker: Child, tell: Callable[[str], None]) -> None:
        """Call `tell` with the stacks of the threads and tasks of a worker; with "" if they cannot be read."""
        self._last_number += 1
        number = self._last_number
        self._asked[number] = tell
        if worker.stacks_asked_for:
            # The worker has not answered the previous request. A further one would wait in its channel as well.
            self._unanswered(worker, number)
            return
        worker.stacks_asked_for = True
        self._children.send(worker, TellStacks(number))
        self._loop.call_later(ANSWER_SECONDS, self._unanswered, worker, number)

    def told(self, worker: Child, number: int, text: str) -> None:
        """Handle the answer of a worker."""
        worker.stacks_asked_for = False
        if tell := self._asked.pop(number, None):
            tell(text)

    def _unanswered(self, worker: Child, number: int) -> None:
        tell = self._asked.pop(number, None)
        if tell is not None:
            how = f"worker {worker.slot} did not answer within {ANSWER_SECONDS:g} s: by signal, threads only"
            requests = listed(self._in_hand(worker), time.monotonic())
            self._ask_by_signal(worker, lambda text: tell(f"{how}\n{requests}\n{text}" if text else ""))

    def ask(self, child: Child, why: str) -> None:
        """Have `child` write its stacks, and log them when they are complete."""
        self.threads(child, lambda text: self._report(child, why, text))

    def threads(self, child: Child, tell: Callable[[str], None]) -> None:
        """Call `tell` with the stacks of the threads of `child`; with "" if they cannot be read."""
        if child.kind in (Kind.TEMPLATE, Kind.HOOKS) and not child.is_heard:
            # Python may not run yet, but a wrapper's shell, which the signal would kill.
            tell("")
        else:
            self._ask_by_signal(child, tell)

    def _ask_by_signal(self, child: Child, tell: Callable[[str], None]) -> None:
        if child.pid is None or child.stacks < 0:
            tell("")
            return
        self._children.signal(child, STACKS_SIGNAL)
        self._loop.call_later(LOOK_EVERY_SECONDS, self._look, child, tell, "", LOOKS)

    def report_crash(self, child: Child) -> None:
        """Log the stacks that the dead `child` wrote at a fatal signal."""
        if child.stacks >= 0:
            self._report(child, "stacks at its death", read_stacks(child.stacks, child.stacks_read))

    def _look(self, child: Child, tell: Callable[[str], None], seen: str, looks: int) -> None:
        """Read the file until two reads are equal, because the signal handler writes bit by bit."""
        if child.stacks < 0:
            tell("")
            return
        written = read_stacks(child.stacks, child.stacks_read)
        if (written and written == seen) or not looks:
            child.stacks_read += len(written.encode())
            if written:  # A process whose event loop stalls again and again is asked as often.
                forget_stacks(child.stacks, child.stacks_read)
            tell(with_requests(written, self._in_hand(child)))
        else:
            self._loop.call_later(LOOK_EVERY_SECONDS, self._look, child, tell, written, looks - 1)

    def _report(self, child: Child, why: str, written: str) -> None:
        if written:
            self._log.warning(f"{child.kind.value}: {why}\n{written.rstrip()}", **child.fields())

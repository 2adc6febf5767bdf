"""Read the stacks of a child process. Log them as one record, or return them to the caller."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import field

from clusterd.linux.stacks import STACKS_SIGNAL, forget_stacks, read_stacks
from clusterd.log import Logger
from clusterd.master.children.child import Child, Kind
from clusterd.master.children.in_hand import listed, with_requests
from clusterd.master.children.table import Children
from clusterd.records import dataclass
from clusterd.wire.in_hand import Table
from clusterd.wire.messages import TellStacks

LOOK_EVERY_SECONDS = 0.1
LOOKS = 10
ANSWER_SECONDS = 0.5
"""How long a worker may take to send its stacks. After that, it is asked by a signal."""


@dataclass(slots=True)
class _Sampled:
    """A process that is asked by signals again and again."""

    take: Callable[[str], None]
    is_over: bool = False
    looks: int = 0
    waiting: list[Callable[[str], None]] = field(default_factory=list)
    """Those who have asked for its stacks meanwhile. They get what it writes next."""


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
        self._asked: dict[tuple[int, int], Callable[[str], None]] = {}
        """By the serial of the worker, which can answer no question to another one, and the number of the question."""
        self._last_number = time.monotonic_ns()
        """An earlier program of the master has used lower numbers."""
        self._sampled: dict[int, _Sampled] = {}
        """By the serial of the process."""

    def tell(self, worker: Child, tell: Callable[[str], None]) -> None:
        """Call `tell` with the stacks of the threads and tasks of a worker; with "" if they cannot be read."""
        self._last_number += 1
        number = self._last_number
        self._asked[worker.serial, number] = tell
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
        if tell := self._asked.pop((worker.serial, number), None):
            tell(text)

    def _unanswered(self, worker: Child, number: int) -> None:
        tell = self._asked.pop((worker.serial, number), None)
        if tell is not None:
            how = f"worker {worker.slot} did not answer within {ANSWER_SECONDS:g} s: by signal, threads only"
            requests = listed(self._in_hand(worker), time.monotonic())
            self._ask_by_signal(worker, lambda text: tell(f"{how}\n{requests}\n{text}" if text else ""))

    def begin_sampling(self, child: Child, take: Callable[[str], None]) -> None:
        """Have `child` write the stacks of its threads again and again, and call `take` with what it writes."""
        if child.serial not in self._sampled:
            self._sampled[child.serial] = _Sampled(take)
            self._sample(child)

    def end_sampling(self, child: Child) -> None:
        """Undo `begin_sampling`. What `child` has been asked for already is still read."""
        if sampled := self._sampled.get(child.serial):
            sampled.is_over = True

    def _sample(self, child: Child) -> None:
        sampled = self._sampled[child.serial]
        is_gone = child.pid is None or child.stacks < 0
        written = "" if is_gone else read_stacks(child.stacks, child.stacks_read)
        if written:
            self._forget(child, written)
            sampled.take(written)
        if sampled.is_over or is_gone:
            del self._sampled[child.serial]
        if written or is_gone or sampled.is_over:
            waiting, sampled.waiting = sampled.waiting, []
            for tell in waiting:
                tell(with_requests(written, self._in_hand(child)))
        if child.serial not in self._sampled:
            return
        if written or sampled.looks % LOOKS == 0:
            # Signals to a process that stands still would pile up, and all be answered when it goes on.
            self._children.signal(child, STACKS_SIGNAL)
        sampled.looks += 1
        self._loop.call_later(LOOK_EVERY_SECONDS, self._sample, child)

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
        if child.serial in self._sampled:
            # One of the two would miss what the other has read.
            self._sampled[child.serial].waiting.append(tell)
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
        if sampled := self._sampled.get(child.serial):
            sampled.waiting.append(tell)
            return
        written = read_stacks(child.stacks, child.stacks_read)
        if (written and written == seen) or not looks:
            self._forget(child, written)
            tell(with_requests(written, self._in_hand(child)))
        else:
            self._loop.call_later(LOOK_EVERY_SECONDS, self._look, child, tell, written, looks - 1)

    def _forget(self, child: Child, written: str) -> None:
        """Do not read this again, and free its memory."""
        child.stacks_read += len(written.encode())
        if written:  # A process whose event loop stalls again and again is asked as often.
            forget_stacks(child.stacks, child.stacks_read)

    def _report(self, child: Child, why: str, written: str) -> None:
        if written:
            self._log.warning(f"{child.kind.value}: {why}\n{written.rstrip()}", **child.fields())

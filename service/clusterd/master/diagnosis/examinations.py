"""Examine workers for an operator: profiles, and what their memory is used for. A worker is examined once at a time.

The order goes over the channel, with a file for the result (`profiles/examination.py`). A worker whose event loop does
not turn does not read it. If a profile is wanted, the master then has the threads of the worker write their stacks, by
signals, until the worker has read the order or the time is over.
"""

import asyncio
import os
import zlib
from collections.abc import Callable
from dataclasses import field
from enum import Enum
from time import monotonic

from clusterd.master.children.child import Child
from clusterd.master.children.table import Children
from clusterd.master.diagnosis.stacks import StackReader
from clusterd.profiles import examination
from clusterd.profiles.examination import Examination, Progress, Stage
from clusterd.records import dataclass
from clusterd.wire.messages import Examine

LOOK_EVERY_SECONDS = 0.1
BEGIN_SECONDS = 0.5
"""How long a worker may take to begin a profile before it is asked by signals."""
MEMORY_BEGIN_SECONDS = 5.0
"""How long a worker may take to begin an examination of its memory, which cannot be done by signals."""
END_SECONDS = {Examination.PROFILE: 5.0, Examination.MEMORY: 120.0}
"""How long a worker may take, after the time is over, to give the result."""
MOST_OF_A_DUMP = 256 * 1024
MOST_OF_DUMPS = examination.MOST_BYTES


class Step(Enum):
    """What the master does about an examination at a look."""

    WAIT = "wait"
    SIGNAL = "signal"
    """Have the stacks written by signals."""
    FINISH = "finish"
    """There is a result, in the file or from signals."""
    GIVE_UP = "give up"


@dataclass(frozen=True, slots=True)
class Times:
    """Of one examination, by time.monotonic()."""

    begun: float
    begin_by: float
    until: float
    end: float
    """When it is given up."""


def times_of(what: Examination, now: float, seconds: float) -> Times:
    """Return the times of an examination that begins now."""
    begin_by = now + (seconds if what is Examination.PROFILE else MEMORY_BEGIN_SECONDS)
    until = now + seconds
    return Times(now, begin_by, until, max(begin_by, until) + END_SECONDS[what])


def next_step(what: Examination, stage: Stage, times: Times, now: float, *, has_dumps: bool) -> Step:
    """Decide what to do."""
    if stage in (Stage.DONE, Stage.FAILED):
        return Step.FINISH
    if stage is Stage.UNREAD:
        if what is Examination.PROFILE:
            if now >= times.until:
                return Step.FINISH if has_dumps else Step.GIVE_UP
            return Step.SIGNAL if now >= times.begun + BEGIN_SECONDS else Step.WAIT
        return Step.GIVE_UP if now > times.begin_by else Step.WAIT
    if now < times.end:
        return Step.WAIT
    return Step.FINISH if has_dumps else Step.GIVE_UP


@dataclass(frozen=True, slots=True)
class Report:
    """The result of an examination. Both parts are compressed, and as the worker has written them."""

    result: bytes
    """What the worker has found; empty if it could not be asked."""
    dumps: bytes
    """The stacks that it has written at signals, one text after the other; empty if there was no need for them."""
    dump_count: int


@dataclass(frozen=True, slots=True)
class NoReport:
    """Why there is none, and what to do."""

    reason: str


Tell = Callable[[Report | NoReport], None]


@dataclass(slots=True)
class _Running:
    child: Child
    what: Examination
    times: Times
    descriptor: int
    tell: Tell
    is_wanted: Callable[[], bool]
    compressor: "zlib._Compress" = field(default_factory=lambda: zlib.compressobj(1))
    dumps: bytearray = field(default_factory=bytearray)
    dump_count: int = 0
    is_signalled: bool = False
    is_over: bool = False

    def take(self, text: str) -> None:
        """Keep what the worker has written at a signal."""
        if not self.is_over and len(self.dumps) < MOST_OF_DUMPS:
            self.dump_count += 1
            self.dumps += self.compressor.compress(text.encode(errors="replace")[:MOST_OF_A_DUMP] + b"\n")


class Examinations:
    """Owns the examinations that are under way. For the master's loop."""

    def __init__(self, children: Children, stacks: StackReader, loop: asyncio.AbstractEventLoop) -> None:
        self._children = children
        self._stacks = stacks
        self._loop = loop
        self._running: dict[int, _Running] = {}
        """By the serial of the worker."""
        self._unread: dict[int, int] = {}
        """The file of the last order to a worker, by its serial, as far as it is not known that the order was read."""

    @property
    def are_under_way(self) -> bool:
        """Whether a worker is being examined."""
        return bool(self._running)

    def start(
        self, worker: Child, what: Examination, seconds: float, tell: Tell, is_wanted: Callable[[], bool]
    ) -> None:
        """Examine `worker`, and call `tell` once, unless `is_wanted` says meanwhile that there is no need any more."""
        now = monotonic()
        if running := self._running.get(worker.serial):
            left = max(0.0, running.times.until - now)
            why = f"worker {worker.slot} is being examined already ({running.what}), for another {left:.0f} s"
            tell(NoReport(f"{why}: wait, or interrupt that"))
            return
        times = times_of(what, now, seconds)
        try:
            descriptor = self._order(worker, what, times)
        except OSError as error:
            tell(NoReport(f"the master can open no file for the result: {error.strerror}"))
            return
        self._running[worker.serial] = running = _Running(worker, what, times, descriptor, tell, is_wanted)
        self._loop.call_later(LOOK_EVERY_SECONDS, self._look, running)

    def ended(self, worker: Child) -> None:
        """Handle the death of a worker."""
        if running := self._running.get(worker.serial):
            progress = examination.read(running.descriptor)
            name = f"worker {worker.slot} (pid {worker.pid})"
            ended = NoReport(f"{name} has ended while it was examined; `clusterctl events` says of what")
            self._finish(running, _report(running, progress) if progress.stage is Stage.DONE else ended)
        self._forget_order(worker)

    def _order(self, worker: Child, what: Examination, times: Times) -> int:
        """Send the order and return a descriptor of the file. Raises OSError."""
        unread = self._unread.get(worker.serial)
        if unread is not None and examination.read(unread).stage is Stage.UNREAD:
            # A further order would wait in its channel as well. It reads none of them in time, or both at once.
            return examination.new_file()
        self._forget_order(worker)
        descriptor = examination.new_file()
        try:
            self._unread[worker.serial] = os.dup(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        self._children.send(worker, Examine(what.value, times.begin_by, times.until), descriptor)
        return descriptor

    def _look(self, running: _Running) -> None:
        if self._running.get(running.child.serial) is not running:
            return
        if not running.is_wanted():
            examination.call_off(running.descriptor)
            self._close(running)
            return
        progress = examination.read(running.descriptor)
        match next_step(running.what, progress.stage, running.times, monotonic(), has_dumps=running.dump_count > 0):
            case Step.FINISH:
                self._finish(running, _report(running, progress))
                return
            case Step.GIVE_UP:
                examination.call_off(running.descriptor)
                self._finish(running, NoReport(_why_given_up(running, progress.stage)))
                return
            case Step.SIGNAL if not running.is_signalled:
                running.is_signalled = True
                self._stacks.begin_sampling(running.child, running.take)
            case Step.WAIT if running.is_signalled:
                running.is_signalled = False
                self._stacks.end_sampling(running.child)
        self._loop.call_later(LOOK_EVERY_SECONDS, self._look, running)

    def _finish(self, running: _Running, outcome: Report | NoReport) -> None:
        self._close(running)
        running.tell(outcome)

    def _close(self, running: _Running) -> None:
        running.is_over = True
        del self._running[running.child.serial]
        if running.is_signalled:
            self._stacks.end_sampling(running.child)
        if examination.read(running.descriptor).stage is not Stage.UNREAD:
            self._forget_order(running.child)
        os.close(running.descriptor)

    def _forget_order(self, worker: Child) -> None:
        if worker.serial in self._unread:
            os.close(self._unread.pop(worker.serial))


def _report(running: _Running, progress: Progress) -> Report | NoReport:
    if progress.stage is Stage.FAILED:
        return NoReport(f"worker {running.child.slot}: {progress.reason}")
    dumps = bytes(running.dumps) + running.compressor.flush() if running.dump_count else b""
    return Report(progress.result, dumps, running.dump_count)


def _why_given_up(running: _Running, stage: Stage) -> str:
    worker = f"worker {running.child.slot}"
    stacks = f"`clusterctl stacks {running.child.slot}` shows its threads"
    if stage is Stage.UNREAD:
        waited = monotonic() - running.times.begun
        return f"{worker} did not begin within {waited:.0f} s: its event loop does not turn; {stacks}"
    return f"{worker} has begun, and gave no result: something in it holds Python's lock; {stacks}"

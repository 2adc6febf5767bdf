"""Samples the stacks of all threads of this process, from a native thread of its own.

Python gives a waiting thread its lock when the running one waits for something, or after 5 ms. A look at such a moment
would only ever see the places where threads wait: in tests the function that used all the processor time was in none of
400 samples. So Python passes its lock on after 50 us, and the lock comes at a random moment. Where several threads run,
they would pay for that. Then it is 400 us, and so for up to a millisecond before a look only, a tenth of the time.

The clock of a thread tells whether it has run since the last look, and so may have another stack. Whether it was
running at the moment of the look is seen shortly after it, when its clock is read again: most of the time since the
last look it may have waited. What a thread has used in all is divided by what was seen in that way. One that was looked
at where threads wait, and runs nevertheless, has begun to run just then, and is looked at again.
"""

import re
import sys
import threading
from collections.abc import Callable
from random import Random

# Imported by name, before the application: it may replace the functions in the module.
from time import clock_gettime_ns, monotonic, monotonic_ns, thread_time_ns
from types import CodeType, FrameType

from clusterd.linux.prctl import wake_in_time
from clusterd.profiles.call_tree import ROOT, THREADS, CallTree
from clusterd.records import dataclass
from clusterd.runtime import originals

PERIOD_SECONDS = 1 / 60
"""To take Python's lock and give it back costs a busy thread about 0.1 ms, and a look with cold caches as much."""
CONTENDED_PERIOD_SECONDS = 1 / 30
"""The same where several threads run: each of them loses time at a look."""
MOST_SHARE = 0.015
"""Of a processor, that looks may take. With so many threads that they would take more, they are less frequent."""
MOST_DEPTH = 200
"""Of a stack. Of a deeper one the innermost frames are kept."""
_PASS_ON_SECONDS = 0.00005
_CONTENDED_PASS_ON_SECONDS = 0.0004
"""The same where several threads run, which would pay for each change."""
_LEAST_WINDOW_SECONDS = 0.0001
_MOST_WINDOW_SECONDS = 0.001
_LOOKS_PER_CHECK = 3
"""After every third look it is seen which threads run. To wake up costs more than all else."""
_AFTER_SECONDS = 0.0001
"""After a look, until clocks are read again."""


@dataclass(frozen=True, slots=True)
class KnownThread:
    """The name of a thread, and its number in the kernel, which is 0 if it is not known."""

    name: str
    native_id: int


def _as_threading_knows(ident: int) -> KnownThread:
    thread = next((each for each in threading.enumerate() if each.ident == ident), None)
    if thread is None:
        return KnownThread("another thread", 0)
    # Threads of a pool have a number each, and are shown as one.
    return KnownThread(re.sub(r"\d+", "N", thread.name), thread.native_id or 0)


class ThreadSampler:
    """Samples threads. `known` are some of them by identifier, as `threading` does not know all (`runtime/hub.py`)."""

    def __init__(self, known: "dict[int, KnownThread]") -> None:
        self.tree = CallTree()
        self.looks = 0
        self._known = known
        self._root = self.tree.named(ROOT, THREADS)
        self._threads: dict[int, _Thread] = {}
        self._rests: set[int] = set()
        """Nodes in which threads have waited."""
        self._random = Random()  # One of its own: the application may have seeded the common one.
        self._pause = originals.Lock()
        self._pause.acquire()
        self._last = monotonic_ns()
        self._running = 0
        """How many threads have run before the last look."""

    def run(self, until: float, is_called_off: Callable[[], bool]) -> None:
        """Sample the other threads until then, by time.monotonic(). Blocks."""
        wake_in_time()
        usual = sys.getswitchinterval()
        self._look(0)
        due = monotonic()
        try:
            while (now := monotonic()) < until and not is_called_off():
                due = max(due + self._period(), now)
                window = self._random.uniform(_LEAST_WINDOW_SECONDS, _MOST_WINDOW_SECONDS)
                if self._running > 1:
                    sys.setswitchinterval(usual)
                    self._rest(due - window - now)
                    sys.setswitchinterval(min(usual, _CONTENDED_PASS_ON_SECONDS))
                    self._rest(window)
                else:
                    sys.setswitchinterval(_PASS_ON_SECONDS)
                    self._rest(due - window - now)
                self._look(1)
        finally:
            sys.setswitchinterval(usual)
        for thread in self._threads.values():
            thread.settle(self.tree)

    def _rest(self, seconds: float) -> None:
        self._pause.acquire(timeout=max(0.0, seconds))

    def _period(self) -> float:
        least = thread_time_ns() / 1e9 / MOST_SHARE / self.looks if self.looks > 100 else 0.0
        return max(CONTENDED_PERIOD_SECONDS if self._running > 1 else PERIOD_SECONDS, least)

    def _look(self, counts: int) -> None:
        """Look once. The time since the last look counts, or does not (0)."""
        own = originals.get_ident()
        frames = sys._current_frames()  # noqa: SLF001 - documented, for exactly this
        now = monotonic_ns()
        elapsed, self._last = (now - self._last) * counts, now
        ran: dict[int, _Thread] = {}
        for ident, frame in frames.items():
            if ident == own:
                continue
            thread = self._threads.get(ident)
            if thread is None or not thread.is_alive():
                thread = self._met(ident)
            if thread.has_run():
                thread.node = self.tree.path(thread.root, codes_of(frame))
                ran[ident] = thread
            else:
                self._rests.add(thread.node)
            self.tree.add(thread.node, elapsed)
        self.looks += counts
        gone = self._threads.keys() - frames.keys() if len(self._threads) >= len(frames) else ()
        for ident in gone:
            self._threads.pop(ident).settle(self.tree)
        frames.clear()
        del frame
        self._running = len(ran)
        if ran and elapsed and self.looks % _LOOKS_PER_CHECK == 0:
            self._see_who_runs(ran, elapsed)

    def _see_who_runs(self, ran: "dict[int, _Thread]", elapsed: int) -> None:
        began = monotonic_ns()
        self._pause.acquire(timeout=_AFTER_SECONDS)
        waited = monotonic_ns() - began
        frames = sys._current_frames()  # noqa: SLF001
        for ident, thread in ran.items():
            used, node = thread.used_since(), thread.node
            if not used:
                self._rests.add(node)
            elif ident in frames:
                if node in self._rests:  # It has begun to run after the look.
                    node = self.tree.path(thread.root, codes_of(frames[ident]))
                thread.note(node, elapsed * min(used, waited) // waited)

    def _met(self, ident: int) -> "_Thread":
        """Enter a thread that is new."""
        if former := self._threads.get(ident):
            former.settle(self.tree)
        known = self._known.get(ident) or _as_threading_knows(ident)
        root = self.tree.named(self._root, known.name)
        thread = self._threads[ident] = _Thread(known.native_id, root)
        return thread


class _Thread:
    """A thread, its clock, and where it was seen to run."""

    def __init__(self, native: int, root: int) -> None:
        # The clock of a thread by its number, as in clock_getcpuclockid(3). pthread_getcpuclockid(3) would not survive
        # a thread that is over.
        self._clock = (~native << 3) | 6
        self.root = root
        self.node = root
        self._weights: dict[int, int] = {}
        """How much of the elapsed time it was seen to run, by node."""
        self._has_clock = bool(native) and self._read() is not None
        self._begun = self._now = self._before = self._read() or 0

    def _read(self) -> int | None:
        try:
            return clock_gettime_ns(self._clock)
        except OSError:
            return None

    def is_alive(self) -> bool:
        """Read the clock. False if the thread is over, and another one has its identifier."""
        if not self._has_clock:
            return True
        now = self._read()
        self._before, self._now = self._now, self._now if now is None else now
        return now is not None

    def has_run(self) -> bool:
        """Whether it has run between the last two reads, or that cannot be told."""
        return not self._has_clock or self._now != self._before or self.node == self.root

    def used_since(self) -> int:
        """Return how long it has run since the last read."""
        now = self._read() if self._has_clock else None
        return 0 if now is None else now - self._now

    def note(self, node: int, weight: int) -> None:
        """Note where it was seen to run."""
        self._weights[node] = self._weights.get(node, 0) + weight

    def settle(self, tree: CallTree) -> None:
        """Add to the tree what it has used."""
        used, whole = self._now - self._begun, sum(self._weights.values())
        for node, weight in self._weights.items():
            tree.add(node, 0, used * weight // whole if whole else 0)
        if not whole:
            tree.add(self.root, 0, used)


def codes_of(frame: FrameType | None) -> list[CodeType]:
    """The functions of a stack, the outermost first."""
    codes: list[CodeType] = []
    while frame is not None and len(codes) < MOST_DEPTH:
        codes.append(frame.f_code)
        frame = frame.f_back
    codes.reverse()
    return codes

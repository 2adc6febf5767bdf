"""Watch the workers from outside, by the scoreboard and /proc: progress, requests, memory."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from clusterd.config.model import Limits
from clusterd.metrics.procfs import private_memory_bytes
from clusterd.metrics.scoreboard import Row
from clusterd.supervisor.events import Event, MemoryLimitReached, RequestLimitReached, WorkerStalled

LOOK_EVERY_SECONDS = 0.25
MEMORY_EVERY_SECONDS = 5.0
LATE_SECONDS = 0.5
"""A look this late means that the master itself did not run: nobody else's time counts then."""
JITTER = 0.1
"""Workers of one age reach max_requests spread over this part of it."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A worker that serves."""

    serial: int
    pid: int
    row: Row
    hang: float
    limits: Limits


class Monitor:
    """Turns what it sees into events; decides nothing."""

    def __init__(self, happened: Callable[[Event], None], memory: Callable[[int], int | None] = private_memory_bytes):
        self._happened = happened
        self._memory = memory
        self._last_look: float | None = None
        self._excused_until = 0.0
        self._memory_looks: dict[int, float] = {}

    def look(self, workers: Iterable[Watched], now: float) -> None:
        """Look at every worker once; `now` is time.monotonic()."""
        if self._last_look is not None and now - self._last_look > LOOK_EVERY_SECONDS + LATE_SECONDS:
            self._excused_until = now
        self._last_look = now
        looks, self._memory_looks = self._memory_looks, {}
        for worker in workers:
            self._look_at_progress(worker, now)
            limits = worker.limits
            if limits.max_requests and worker.row.requests >= _with_jitter(limits.max_requests, worker.serial):
                self._happened(RequestLimitReached(worker.serial))
            last = looks.get(worker.serial, now)
            if limits.max_memory and now - last >= MEMORY_EVERY_SECONDS:
                last = now
                memory = self._memory(worker.pid)
                if memory is not None and memory > limits.max_memory:
                    self._happened(MemoryLimitReached(worker.serial, memory, limits.max_memory))
            self._memory_looks[worker.serial] = last

    def _look_at_progress(self, worker: Watched, now: float) -> None:
        for moment, what in (
            (worker.row.heartbeat, "its event loop has not turned"),
            (worker.row.progress, "none of its threads has made progress"),
        ):
            stalled = now - max(moment / 1e9, self._excused_until)
            if stalled >= worker.hang / 2:
                self._happened(WorkerStalled(worker.serial, stalled, what))
                return


def _with_jitter(most: int, serial: int) -> int:
    """`most`, and up to a tenth more: the same for one worker at every look (Knuth's multiplicative hash)."""
    fraction = (serial * 2654435761 % 2**32) / 2**32
    return most + int(most * JITTER * fraction)

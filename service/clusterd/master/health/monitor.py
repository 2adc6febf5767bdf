"""Watch the progress, the requests and the memory of the workers, through the scoreboard and /proc."""

from collections.abc import Callable, Iterable

from clusterd.config.model import Limits, Timeouts
from clusterd.master.health.punctuality import Punctuality
from clusterd.master.health.readiness import Seen
from clusterd.metrics.shared.scoreboard import Row
from clusterd.records import dataclass
from clusterd.supervisor.events import Event, MemoryLimitReached, RequestLimitReached, WorkerStalled

JITTER = 0.1
"""A worker's limits.max_requests is raised by up to this fraction, so that workers of one age do not end together."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A worker that serves."""

    serial: int
    slot: int
    pid: int
    row: Row
    is_debugged: bool
    timeouts: Timeouts
    limits: Limits

    def seen(self) -> Seen:
        """The data from which readiness is decided."""
        row = self.row
        return Seen(
            serial=self.serial,
            slot=self.slot,
            heartbeat=row.heartbeat / 1e9,
            progress=row.progress / 1e9,
            waiting=row.queue_length,
            # An application on the event loop uses no threads: none is busy, and no request waits for one.
            is_full=bool(row.threads_busy) and not row.threads_free and row.queue_length >= self.limits.queue,
            is_debugged=self.is_debugged,
            unready=self.timeouts.unready,
        )


class Monitor:
    """Turns its observations into events. The supervisor decides what follows.

    `memory` returns the private bytes of a process as they were read last, or None. `began` is that of `Punctuality`.
    """

    def __init__(
        self, post_event: Callable[[Event], None], memory: Callable[[int], int | None], began: float = 0.0
    ) -> None:
        self._post_event = post_event
        self._memory = memory
        self._punctuality = Punctuality(began)

    def look(self, workers: Iterable[Watched], now: float) -> None:
        """Check every worker once. `now` is time.monotonic()."""
        excused_until = self._punctuality.look(now)
        for worker in workers:
            self._look_at_progress(worker, now, excused_until)
            limits = worker.limits
            if limits.max_requests and worker.row.requests >= _with_jitter(limits.max_requests, worker.serial):
                self._post_event(RequestLimitReached(worker.serial))
            memory = self._memory(worker.pid) if limits.max_memory else None
            if memory is not None and memory > limits.max_memory:
                self._post_event(MemoryLimitReached(worker.serial, memory, limits.max_memory))

    def _look_at_progress(self, worker: Watched, now: float, excused_until: float) -> None:
        for moment, what in (
            (worker.row.heartbeat, "its event loop has not turned"),
            (worker.row.progress, "none of its threads has made progress"),
        ):
            stalled = now - max(moment / 1e9, excused_until)
            if stalled >= worker.timeouts.hang / 2:
                self._post_event(WorkerStalled(worker.serial, stalled, what))
                return


def _with_jitter(most: int, serial: int) -> int:
    """`most` plus up to a tenth. The result depends only on the serial (Knuth's multiplicative hash)."""
    fraction = (serial * 2654435761 % 2**32) / 2**32
    return most + int(most * JITTER * fraction)

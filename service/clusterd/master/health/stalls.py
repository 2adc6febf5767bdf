"""Find the workers whose event loops do not turn: each is reported once, long before it would be killed."""

from collections.abc import Iterable, Iterator

from clusterd.master.health.monitor import Watched
from clusterd.master.health.punctuality import Punctuality


class Stalls:
    """Remembers which stalls it has reported. It only computes; it has no side effects.

    `began` is that of `Punctuality`.
    """

    def __init__(self, began: float = 0.0) -> None:
        self._punctuality = Punctuality(began)
        self._reported: dict[int, int] = {}
        """The heartbeat of each worker at its last stall, by serial."""

    def look(self, workers: Iterable[Watched], now: float) -> Iterator[tuple[Watched, float]]:
        """Yield each worker that has not turned for timeouts.stall, and for how many seconds it has not.

        `now` is time.monotonic().
        """
        excused_until = self._punctuality.look(now)
        reported, self._reported = self._reported, {}
        for worker in workers:
            heartbeat, limit = worker.row.heartbeat, worker.timeouts.stall
            if reported.get(worker.serial) == heartbeat:
                self._reported[worker.serial] = heartbeat
                continue
            stalled = now - max(heartbeat / 1e9, excused_until)
            if limit is not None and stalled >= limit and not worker.is_debugged:
                self._reported[worker.serial] = heartbeat
                yield worker, stalled

"""Shows the state of a worker's interpreter in its row: how busy and how late it is, and its garbage collections."""

import gc

from clusterd.linux.descriptors import descriptor_limit
from clusterd.metrics.shared.row import Row
from clusterd.worker.diagnosis.business import Business


class Vitals:
    """Of one worker, of whatever kind."""

    def __init__(self, row: Row) -> None:
        self._row = row
        self._before = _collections()
        """The collections of the template, of which this process is a fork."""
        self._due: float | None = None
        self._business = Business()
        row.max_fds = descriptor_limit()

    def tick(self, now: float) -> None:
        """Record how late this tick is, how busy the worker was, and the garbage collections so far.

        `now` is time.monotonic().
        """
        self._row.busy = self._business.tick()
        if self._due is not None:
            Row.loop_lag.observe(self._row, max(0.0, now - self._due))
        collections = zip(_collections(), self._before, strict=True)
        Row.collections.write(self._row, [count - before for count, before in collections])

    def next_tick(self, due: float) -> None:
        """Note when the next tick is due."""
        self._due = due


def _collections() -> list[int]:
    """By generation."""
    return [stats["collections"] for stats in gc.get_stats()]

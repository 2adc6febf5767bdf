"""Counts each request of a worker. Implements the engine's `Counters` (http/ports.py) and is compiled with it."""

from bisect import bisect_left

from clusterd.metrics.shared.row import BUCKETS, OFFSETS, SECONDS, Row


class RequestCounter:
    """Counts into the row of this process.

    Keeps a copy of the counts, because a read from the shared memory costs as much as a write.
    """

    __slots__ = ("_counts", "_floats", "_integers", "_row", "_seconds")

    def __init__(self, row: Row) -> None:
        self._row = row
        self._integers = row.integers
        self._floats = row.floats
        self._counts: list[int] = row.integers.tolist()
        self._seconds: float = row.floats[SECONDS]

    def request_done(self, status: int, seconds: float) -> None:
        """Count a response by its status code (0 to 999) and its duration in seconds."""
        index = OFFSETS[status]
        if seconds > 0.001:  # Skips the search for the fastest responses, where its cost would show most.
            index += bisect_left(BUCKETS, seconds)
        count = self._counts[index] + 1
        self._counts[index] = count
        self._integers[index] = count
        self._seconds += seconds
        self._floats[SECONDS] = self._seconds

    def request_timed_out(self) -> None:
        """Count a request or connection that a timeout has ended."""
        self._row.timed_out += 1

    def connections_changed(self, count: int) -> None:
        """Publish the number of open connections."""
        self._row.connections = count

"""What every request pays for being counted. Compiled, as the engine is whose `Counters` this is."""

from bisect import bisect_left

from clusterd.metrics.row import BUCKETS, OFFSETS, SECONDS, Row


class RequestCounter:
    """Counts into the row of this process.

    What was counted is kept here as well: to read it back out of the shared memory costs as much as to write it.
    """

    __slots__ = ("_counts", "_floats", "_integers", "_row", "_seconds")

    def __init__(self, row: Row) -> None:
        self._row = row
        self._integers = row.integers
        self._floats = row.floats
        self._counts: list[int] = row.integers.tolist()
        self._seconds: float = row.floats[SECONDS]

    def request_done(self, status: int, seconds: float) -> None:
        """Count a response by its status code (0 to 999) and its duration."""
        index = OFFSETS[status]
        if seconds > 0.001:  # it saves the search for the fastest answers, where its cost would show most
            index += bisect_left(BUCKETS, seconds)
        count = self._counts[index] + 1
        self._counts[index] = count
        self._integers[index] = count
        self._seconds += seconds
        self._floats[SECONDS] = self._seconds

    def request_timed_out(self) -> None:
        """Count a timeout."""
        self._row.timed_out += 1

    def connections_changed(self, count: int) -> None:
        """So many connections are open now."""
        self._row.connections = count

"""Counts the requests of a worker. Implements the engine's `Counters` (http/ports.py) and is compiled with it."""

from bisect import bisect_left
from typing import Final

from clusterd.metrics.shared.row import DURATIONS, Row

_FIRST: Final = DURATIONS[0]
_SECOND: Final = DURATIONS[1]
_THIRD: Final = DURATIONS[2]
_FOURTH: Final = DURATIONS[3]
_OFFSETS: Final = tuple(
    Row.responses.start + Row.responses.width * Row.responses.class_of(status) for status in range(1000)
)
"""The cell of the first duration, by status."""
_CLASSES: Final = tuple(Row.responses.class_of(status) for status in range(1000))
_REFUSED: Final = Row.responses.width - 1
_IN_FLIGHT: Final = Row.in_flight.start
_JOBS: Final = Row.jobs.start


def _place(seconds: float) -> int:
    """Return the place among DURATIONS of a duration. The first places are compared here, as a search costs more."""
    if seconds <= _SECOND:
        return 0 if seconds <= _FIRST else 1
    if seconds <= _FOURTH:
        return 2 if seconds <= _THIRD else 3
    return bisect_left(DURATIONS, seconds)


class RequestCounter:
    """Counts into the row of this process.

    Keeps a copy of the counts, because a read from the shared memory costs as much as a write. What must be true while
    the event loop is blocked, or when the worker is killed, is written at once: the responses and the gauges. The rest
    is written by `publish`.
    """

    __slots__ = (
        "_counts",
        "_in_flight",
        "_integers",
        "_row",
        "_seconds",
        "_seconds_of_2xx",
        "_unwaited",
        "_waited",
        "_waits",
    )

    def __init__(self, row: Row) -> None:
        self._row = row
        self._integers = row.integers
        self._counts: list[int] = row.integers.tolist()
        self._in_flight = 0
        self._seconds: list[float] = [0.0] * Row.responses.sums
        self._seconds_of_2xx = 0.0
        """Apart from `_seconds`, because an attribute costs less than an item of a list."""
        self._waited = 0.0
        self._unwaited = 0
        """Requests that waited no longer than the first bound. Apart from `_waits`, because most are."""
        self._waits: list[int] = [0] * Row.queue.cells

    # ---- for each request

    def request_begun(self) -> None:
        """Count a request whose head has arrived as in flight."""
        count = self._in_flight + 1
        self._in_flight = count
        self._integers[_IN_FLIGHT] = count

    def request_done(self, status: int, seconds: float, waited: float) -> None:
        """Count the response to a request in flight, by its status code (0 to 999) and its duration in seconds.

        The application began after it had `waited` so many seconds; -1 if it did not begin.
        """
        index = _OFFSETS[status] + _place(seconds)
        count = self._counts[index] + 1
        self._counts[index] = count
        self._integers[index] = count
        if 200 <= status < 300:
            self._seconds_of_2xx += seconds
        else:
            self._seconds[_CLASSES[status]] += seconds
        if waited >= 0.0:
            self._waited += waited
            if waited <= _FIRST:
                self._unwaited += 1
            else:
                self._waits[_place(waited)] += 1
        self.request_dropped()

    def request_dropped(self) -> None:
        """Count a request that was in flight as over, without a response."""
        left = self._in_flight - 1
        self._in_flight = left
        self._integers[_IN_FLIGHT] = left

    def jobs_changed(self, count: int) -> None:
        """Publish the number of calls that threads run or that wait for a thread."""
        self._integers[_JOBS] = count

    def publish(self) -> None:
        """Write what `request_done` has added up. To be called a few times a second, and at the end."""
        floats, integers = self._row.floats, self._integers
        self._seconds[_CLASSES[200]] = self._seconds_of_2xx
        for place, seconds in enumerate(self._seconds):
            floats[Row.responses.sum_start + place] = seconds
        floats[Row.queue.sum_start] = self._waited
        start = Row.queue.start
        integers[start] = self._unwaited + self._waits[0]
        for place in range(1, len(self._waits)):
            integers[start + place] = self._waits[place]

    # ---- less often

    def request_refused(self, reason: str, status: int) -> None:
        """Count a request or connection that was refused, and its response. `status` is 0 if there is none."""
        Row.refused.add(self._row, reason)
        if status:
            self.refusal_sent(status)

    def refusal_sent(self, status: int) -> None:
        """Count the response to what was refused."""
        index = _OFFSETS[status] + _REFUSED
        self._counts[index] += 1
        self._integers[index] = self._counts[index]

    def timed_out(self, kind: str) -> None:
        """Count a request or connection that a timeout has ended."""
        Row.timeouts.add(self._row, kind)

    def client_aborted(self) -> None:
        """Count a request whose client has left."""
        self._row.client_aborts += 1

    def handshake_failed(self) -> None:
        """Count a TLS handshake that has failed."""
        self._row.handshake_failures += 1

    def connections_changed(self, count: int) -> None:
        """Publish the number of open connections."""
        self._row.connections = count

    def websockets_changed(self, count: int) -> None:
        """Publish the number of open WebSockets."""
        self._row.websockets = count

"""The row of one worker in the scoreboard, and the totals that are read from it."""

from dataclasses import dataclass
from typing import Final, Self, overload
from zlib import crc32

from clusterd.metrics.shared.in_hand import PLACE_CELLS, PLACES

CODE_CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx", "other")

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the request durations in seconds: Prometheus's defaults, and two smaller ones for fast responses."""

ROW_CELLS: Final = 256

_GAUGES: Final = (
    "heartbeat",
    "progress",
    "accepting",
    "connections",
    "threads_free",
    "in_flight",
    "threads_busy",
    "queue_length",
)
_COUNTERS: Final = ("accepted", "handed_over", "adopted", "timed_out", "log_dropped")
_NAMES: Final = (*_GAUGES, *_COUNTERS)
_STARTED_AT: Final = len(_NAMES)
SECONDS: Final = _STARTED_AT + 1
# Requests are counted in one table of code class by duration. It yields both series with one write for each request,
# and the two always agree.
_REQUESTS: Final = SECONDS + 1
_WIDTH: Final = len(BUCKETS) + 1
OFFSETS: Final = tuple(
    _REQUESTS + _WIDTH * ((status // 100 if 100 <= status < 600 else len(CODE_CLASSES)) - 1) for status in range(1000)
)
IN_HAND: Final = 128
"""Where the texts of `InHand` begin. These cells are not numbers."""
IN_HAND_END: Final = IN_HAND + PLACES * PLACE_CELLS
assert _REQUESTS + _WIDTH * len(CODE_CLASSES) <= IN_HAND
assert IN_HAND_END <= ROW_CELLS
LAYOUT: Final = crc32(repr((_NAMES, CODE_CLASSES, BUCKETS, IN_HAND, PLACES, PLACE_CELLS)).encode())
"""Differs when the meaning of a cell does. Processes with different layouts must not share a scoreboard."""


class _Cell:
    """Descriptor for an attribute of a row that is stored as a number in shared memory."""

    def __set_name__(self, owner: type["Row"], name: str) -> None:
        self.index = _NAMES.index(name)

    @overload
    def __get__(self, row: None, owner: type["Row"]) -> Self: ...
    @overload
    def __get__(self, row: "Row", owner: type["Row"]) -> int: ...
    def __get__(self, row: "Row | None", owner: type["Row"]) -> "Self | int":
        return self if row is None else row.integers[self.index]

    def __set__(self, row: "Row", value: int) -> None:
        row.integers[self.index] = value


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts that only grow. The totals of a slot are the sum over all workers it has had."""

    requests: tuple[int, ...] = (0,) * len(CODE_CLASSES)
    """By code class, in the order of CODE_CLASSES."""
    buckets: tuple[int, ...] = (0,) * _WIDTH
    """By duration, not cumulative: one count for each of BUCKETS and one for longer durations."""
    seconds: float = 0.0
    """Duration of all requests together, in seconds."""
    accepted: int = 0
    handed_over: int = 0
    adopted: int = 0
    timed_out: int = 0
    log_dropped: int = 0

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            tuple(map(sum, zip(self.requests, other.requests, strict=True))),
            tuple(map(sum, zip(self.buckets, other.buckets, strict=True))),
            self.seconds + other.seconds,
            self.accepted + other.accepted,
            self.handed_over + other.handed_over,
            self.adopted + other.adopted,
            self.timed_out + other.timed_out,
            self.log_dropped + other.log_dropped,
        )


class Row:
    """The numbers of one worker. Only its event loop's thread writes them; any process may read them."""

    __slots__ = ("floats", "integers")

    heartbeat = _Cell()
    """When the event loop last turned, in monotonic nanoseconds."""
    progress = _Cell()
    """When the loop or a thread last made progress with a request, or had none; in monotonic nanoseconds."""
    accepting = _Cell()
    """1 while the worker takes new connections, else 0. Also 0 while it accepts for itself and is at its limit."""
    connections = _Cell()
    """Open connections."""
    threads_free = _Cell()
    """Threads that wait for a request; at least 1 if the application runs on the loop."""
    in_flight = _Cell()
    """Requests whose response is not complete."""
    threads_busy = _Cell()
    """Threads that run a request."""
    queue_length = _Cell()
    """Requests that wait for a thread."""
    accepted = _Cell()
    """Connections accepted from a listener."""
    handed_over = _Cell()
    """Connections handed over to another worker."""
    adopted = _Cell()
    """Connections taken over from another worker."""
    timed_out = _Cell()
    """Requests and connections that one of the timeouts has ended."""
    log_dropped = _Cell()
    """Log records that the worker has dropped."""

    def __init__(self, integers: "memoryview[int]", floats: "memoryview[float]") -> None:
        self.integers = integers
        self.floats = floats

    @property
    def started_at(self) -> float:
        """When the worker started to run, in seconds since 1970; 0 until it has written this."""
        return self.floats[_STARTED_AT]

    @started_at.setter
    def started_at(self, value: float) -> None:
        self.floats[_STARTED_AT] = value

    @property
    def requests(self) -> int:
        """Number of requests that were answered."""
        return sum(self.integers[_REQUESTS : _REQUESTS + _WIDTH * len(CODE_CLASSES)])

    def totals(self) -> Totals:
        """Return the counts so far."""
        cells = self.integers.tolist()
        starts = range(_REQUESTS, _REQUESTS + _WIDTH * len(CODE_CLASSES), _WIDTH)
        table = [cells[start : start + _WIDTH] for start in starts]
        return Totals(
            tuple(map(sum, table)),
            tuple(map(sum, zip(*table, strict=True))),
            self.floats[SECONDS],
            *cells[len(_GAUGES) : len(_NAMES)],
        )

    @staticmethod
    def placement_cells() -> tuple[int, int, int, int]:
        """The cells of `accepting`, `connections`, `threads_free` and `heartbeat` in a row."""
        return Row.accepting.index, Row.connections.index, Row.threads_free.index, Row.heartbeat.index

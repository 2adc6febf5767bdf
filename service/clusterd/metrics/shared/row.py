"""The row of one worker in the scoreboard: every series that a worker counts or shows, and the totals of the counts."""

from dataclasses import fields
from math import inf
from typing import Final
from zlib import crc32

from clusterd.config.limits import Timeouts
from clusterd.metrics.shared.series import (
    Counter,
    Gauge,
    Histogram,
    Internal,
    LabelledCounter,
    Moment,
    Responses,
    Series,
)
from clusterd.records import dataclass

DURATIONS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Upper bounds in seconds: Prometheus's defaults, and smaller ones for fast responses and short waits."""

LAGS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds. A timer of the event loop may fire up to 1 ms late without any fault."""

ENDS_NOTHING: Final = frozenset({"announce", "stall", "unready"})
"""The settings of `timeouts:` that end nothing: something is only told, by the log or by `/readyz`."""

TIMEOUTS: Final = tuple(field.name for field in fields(Timeouts) if field.name not in ENDS_NOTHING)
"""The settings of `timeouts:` that end something."""

BUSY_UNIT: Final = 1000
"""The value of `Row.busy` in a worker that does nothing but work."""

REFUSALS: Final = ("queue_full", "queue_timeout", "connections", "bad_request", "limits", "tls")


class Row:
    """The numbers of one worker. Only its event loop's thread writes them, and the master once the worker is dead.

    Any process may read them. The order of the declarations is that of the cells: first the numbers that go up and
    down, then those that only grow.
    """

    __slots__ = ("floats", "integers")

    heartbeat = Internal()
    """When the event loop last turned, in monotonic nanoseconds."""
    progress = Internal()
    """When the loop or a thread last made progress with a request, or had none; in monotonic nanoseconds."""
    accepting = Internal()
    """1 while the worker takes new connections, else 0. Also 0 while it accepts for itself and is at its limit."""
    threads_free = Internal()
    """Threads that wait for a request; at least 1 if the application runs on the loop."""
    jobs = Internal()
    """Calls of the application that a thread or greenlet runs, or that wait for one."""
    busy = Internal()
    """How busy the worker was between the last two ticks of its event loop, from 0 to BUSY_UNIT."""
    started_at = Moment()
    """When the worker started to run; 0 until it has written this."""

    connections = Gauge("clusterd_http_connections", "Open connections.")
    connections_limit = Gauge(
        "clusterd_http_connections_limit",
        "Connections that may be open: limits.connections, or as many as LimitNOFILE= allows.",
    )
    in_flight = Gauge(
        "clusterd_http_requests_in_flight", "Requests whose head has arrived and whose response is not complete."
    )
    threads = Gauge(
        "clusterd_http_threads",
        "Threads, or greenlets, that call the application; 0 if it runs on the event loop.",
    )
    queue_limit = Gauge(
        "clusterd_http_queue_limit", "Requests that may wait for a thread: limits.queue; 0 if none can."
    )
    websockets = Gauge("clusterd_websockets", "Open WebSockets.")
    max_fds = Gauge("clusterd_worker_max_fds", "File descriptors that may be open (LimitNOFILE=).")

    responses = Responses(
        "clusterd_http_requests",
        "Requests answered, refused ones included, by class of status code.",
        "clusterd_http_request_duration_seconds",
        "Time from the end of a request's head to the end of its response, without refused requests.",
        DURATIONS,
    )
    refused = LabelledCounter(
        "clusterd_http_refused",
        "Requests and connections that clusterd refused on its own, by reason.",
        "reason",
        REFUSALS,
    )
    queue = Histogram(
        "clusterd_http_queue_seconds",
        "Time from when the application could be called for a request until it was called.",
        DURATIONS,
    )
    timeouts = LabelledCounter(
        "clusterd_http_timeouts",
        "Requests and connections ended by a timeout, by its setting (timeouts:).",
        "kind",
        TIMEOUTS,
    )
    client_aborts = Counter(
        "clusterd_http_client_aborts", "Requests whose client left before the response was complete."
    )
    received_bytes = Counter("clusterd_http_received_bytes", "Bytes received from clients, after TLS was decrypted.")
    sent_bytes = Counter("clusterd_http_sent_bytes", "Bytes sent to clients, before they were encrypted by TLS.")
    accepted = Counter("clusterd_http_connections_accepted", "Connections accepted.")
    handed_over = Counter("clusterd_http_connections_handed_over", "Connections handed over to another worker.")
    adopted = Counter("clusterd_http_connections_adopted", "Connections taken over from another worker.")
    log_dropped = Counter(
        "clusterd_log_records_dropped",
        "Log records that the workers dropped because their destination did not accept them.",
    )
    handshake_failures = Counter("clusterd_tls_handshake_failures", "TLS handshakes that failed.")
    loop_lag = Histogram(
        "clusterd_event_loop_lag_seconds",
        "How late the event loop called a timer that is due four times a second.",
        LAGS,
    )
    collections = LabelledCounter(
        "clusterd_worker_garbage_collections",
        "Runs of Python's garbage collector, by generation.",
        "generation",
        ("0", "1", "2"),
    )

    def __init__(self, integers: "memoryview[int]", floats: "memoryview[float]") -> None:
        self.integers = integers
        self.floats = floats

    @property
    def threads_busy(self) -> int:
        """Threads that run a request."""
        return min(self.jobs, self.threads)

    @property
    def queue_length(self) -> int:
        """Requests that wait for a thread."""
        return max(0, self.jobs - self.threads)

    @property
    def requests(self) -> int:
        """Number of requests that were answered, refusals included."""
        responses = Row.responses
        return sum(self.integers[responses.start : responses.start + responses.cells])

    def totals(self) -> "Totals":
        """Return the counts so far.

        What cannot be one counts as 0: the sums over all workers of a slot must not decrease, and NaN would stay.
        """
        return Totals(
            tuple(max(0, count) for count in self.integers[_COUNTS : _COUNTS + len(_NO_COUNTS)].tolist()),
            tuple(
                a_sum if 0.0 <= a_sum < inf else 0.0 for a_sum in self.floats[_SUMS : _SUMS + len(_NO_SUMS)].tolist()
            ),
        )

    @staticmethod
    def placement_cells() -> tuple[int, int, int, int]:
        """The cells of `accepting`, `connections`, `threads_free` and `heartbeat` in a row."""
        return Row.accepting.start, Row.connections.start, Row.threads_free.start, Row.heartbeat.start


SERIES: Final = tuple(each for each in vars(Row).values() if isinstance(each, Series))
"""Every declaration of `Row`, in order."""


def _lay_out() -> tuple[int, int, int]:
    """Give each series its cells. Returns the first cell of the counts, that of the sums, and the end of both."""
    cell = 0
    for series in SERIES:
        series.start = cell
        cell += series.cells
    counts = min(series.start for series in SERIES if not isinstance(series, (Gauge, Internal, Moment)))
    sums = cell
    for series in SERIES:
        series.sum_start = cell
        cell += series.sums
    return counts, sums, cell


_COUNTS, _SUMS, _END = _lay_out()
_NO_COUNTS: Final = (0,) * (_SUMS - _COUNTS)
_NO_SUMS: Final = (0.0,) * (_END - _SUMS)

ROW_CELLS: Final = -(-_END // 8) * 8
"""A whole number of cache lines, so that two workers never write to the same one."""
LAYOUT: Final = crc32(repr([series.described() for series in SERIES]).encode())
"""Differs when the meaning of a cell does. Processes with different layouts must not share a scoreboard."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts that only grow. The totals of a slot are the sum over all workers it has had.

    A series of `Row` reads its own: `Row.accepted.of(totals)`.
    """

    counts: tuple[int, ...] = _NO_COUNTS
    sums: tuple[float, ...] = _NO_SUMS

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            tuple(map(sum, zip(self.counts, other.counts, strict=True))),
            tuple(map(sum, zip(self.sums, other.sums, strict=True))),
        )

    def cells(self, series: Series) -> tuple[int, ...]:
        """Return the integers of a series."""
        return self.counts[series.start - _COUNTS : series.start - _COUNTS + series.cells]

    def sums_of(self, series: Series) -> tuple[float, ...]:
        """Return the floating-point numbers of a series."""
        return self.sums[series.sum_start - _SUMS : series.sum_start - _SUMS + series.sums]

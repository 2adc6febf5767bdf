"""The metric families with a series for each slot."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from clusterd.metrics.kernel.procfs import ProcessUsage
from clusterd.metrics.page.facts import ClusterFacts, Phase, WorkerFacts
from clusterd.metrics.page.families import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from clusterd.metrics.page.ledger import Ledger
from clusterd.metrics.shared.row import BUCKETS, CODE_CLASSES, Row, Totals

_BOUNDS = (*map(str, BUCKETS), "+Inf")


class SlotView:
    """A slot at one moment: the counts of all its workers, the gauges of the living ones, and the one that serves."""

    def __init__(
        self,
        slot: int,
        facts: ClusterFacts,
        ledger: Ledger,
        usage: Callable[[int], ProcessUsage | None],
        now: int,
    ) -> None:
        living = [worker for worker in facts.workers if worker.slot == slot]
        usages = [found for worker in living if (found := usage(worker.pid))]
        self.label = [str(slot)]
        self.rows = [worker.row for worker in living]
        self.totals: Totals = ledger.totals(slot, self.rows)
        self.current: WorkerFacts | None = max(
            living,
            key=lambda worker: (worker.phase is Phase.READY, worker.generation, worker.pid),
            default=None,
        )
        self.up = self.current is not None and self.current.phase is Phase.READY
        self.cpu_seconds = ledger.cpu_seconds(slot) + sum(found.cpu_seconds for found in usages)
        self.resident_bytes = sum(found.resident_bytes for found in usages)
        self.open_fds = sum(found.open_fds for found in usages)
        self.restarts = {reason: facts.restarts.get((slot, reason), 0) for reason in facts.restart_reasons}
        self.now = now

    def heartbeat_age(self) -> float | None:
        """Seconds since the event loop of the serving worker last turned; None before its first turn."""
        beat = self.current.row.heartbeat if self.current else 0
        return max(0, self.now - beat) / 1e9 if beat else None

    def start_time(self) -> float | None:
        """When the serving worker started, in seconds since 1970; None until it has written this."""
        return self.current.row.started_at or None if self.current else None


@dataclass(frozen=True, slots=True)
class _Series:
    """A series for each slot. A slot without a value is left out."""

    name: str
    documentation: str
    value: Callable[[SlotView], float | None]


def _sum(read: Callable[[Row], int]) -> Callable[[SlotView], float]:
    return lambda view: sum(map(read, view.rows))


_GAUGES = (
    _Series("clusterd_http_requests_in_flight", "Requests not answered yet.", _sum(lambda row: row.in_flight)),
    _Series("clusterd_http_connections", "Open connections.", _sum(lambda row: row.connections)),
    _Series("clusterd_http_threads_busy", "Threads that run a request.", _sum(lambda row: row.threads_busy)),
    _Series("clusterd_http_queue_length", "Requests that wait for a thread.", _sum(lambda row: row.queue_length)),
    _Series("clusterd_worker_up", "Whether the slot has a worker that serves.", lambda view: view.up),
    _Series(
        "clusterd_worker_generation",
        "Generation of the application in the slot.",
        lambda view: view.current.generation if view.current else None,
    ),
    _Series(
        "clusterd_worker_start_time_seconds",
        "When the slot's worker started.",
        lambda view: view.start_time(),
    ),
    _Series(
        "clusterd_worker_heartbeat_age_seconds",
        "Time since the event loop of the slot's worker turned.",
        lambda view: view.heartbeat_age(),
    ),
    _Series(
        "clusterd_worker_resident_memory_bytes",
        "Resident memory, pages shared with the template included.",
        lambda view: view.resident_bytes,
    ),
    _Series("clusterd_worker_open_fds", "Open file descriptors.", lambda view: view.open_fds),
)

_COUNTERS = (
    _Series("clusterd_http_timeouts", "Requests ended by a timeout.", lambda view: view.totals.timed_out),
    _Series("clusterd_http_connections_accepted", "Connections accepted.", lambda view: view.totals.accepted),
    _Series(
        "clusterd_http_connections_handed_over",
        "Connections handed over to another worker.",
        lambda view: view.totals.handed_over,
    ),
    _Series(
        "clusterd_http_connections_adopted",
        "Connections taken over from another worker.",
        lambda view: view.totals.adopted,
    ),
    _Series(
        "clusterd_log_records_dropped",
        "Log records that the workers dropped because their destination did not accept them.",
        lambda view: view.totals.log_dropped,
    ),
    _Series("clusterd_worker_cpu_seconds", "CPU time, user and system.", lambda view: view.cpu_seconds),
)


def slot_families(views: Sequence[SlotView]) -> Iterator[Metric]:
    """Yield all metric families that have a series for each slot."""
    yield _requests(views)
    yield _durations(views)
    for series in _GAUGES:
        yield _filled(GaugeMetricFamily(series.name, series.documentation, labels=["worker"]), series, views)
    for series in _COUNTERS:
        yield _filled(CounterMetricFamily(series.name, series.documentation, labels=["worker"]), series, views)
    yield _restarts(views)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, series: _Series, views: Sequence[SlotView]) -> Metric:
    for view in views:
        value = series.value(view)
        if value is not None:
            family.add_metric(view.label, value)
    return family


def _requests(views: Sequence[SlotView]) -> Metric:
    family = CounterMetricFamily(
        "clusterd_http_requests", "Requests answered, by class of status code.", labels=["worker", "code"]
    )
    for view in views:
        for code, count in zip(CODE_CLASSES, view.totals.requests, strict=True):
            family.add_metric([*view.label, code], count)
    return family


def _durations(views: Sequence[SlotView]) -> Metric:
    family = HistogramMetricFamily(
        "clusterd_http_request_duration_seconds",
        "Time from the end of a request's head to the end of its response.",
        labels=["worker"],
    )
    for view in views:
        cumulative = accumulate(view.totals.buckets)
        family.add_metric(view.label, list(zip(_BOUNDS, cumulative, strict=True)), view.totals.seconds)
    return family


def _restarts(views: Sequence[SlotView]) -> Metric:
    family = CounterMetricFamily(
        "clusterd_worker_restarts", "Workers that clusterd replaced on its own, by reason.", labels=["worker", "reason"]
    )
    for view in views:
        for reason, count in sorted(view.restarts.items()):
            family.add_metric([*view.label, reason], count)
    return family

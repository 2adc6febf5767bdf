"""The metric families with a series for each slot."""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from clusterd.metrics.kernel.procfs import ProcessUsage
from clusterd.metrics.page.facts import ClusterFacts, Phase, WorkerFacts
from clusterd.metrics.page.families import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from clusterd.metrics.page.ledger import Ledger
from clusterd.metrics.shared.row import BUSY_UNIT, SERIES, Row, Totals
from clusterd.metrics.shared.series import Counter, Gauge, Histogram, LabelledCounter, Responses, Series
from clusterd.records import dataclass

_ALWAYS_SHOWN = ("2xx", "3xx", "4xx", "5xx")


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
        self.is_wanted = slot in facts.slots
        """Whether the slot should have a worker. A slot that was scaled away keeps its counts and nothing else."""
        self.up = self.current is not None and self.current.phase is Phase.READY
        self.cpu_seconds = ledger.cpu_seconds(slot) + sum(found.cpu_seconds for found in usages)
        self.resident_bytes = sum(found.resident_bytes for found in usages)
        self.open_fds = sum(found.open_fds for found in usages)
        self.restarts = {
            (reason, asked): facts.restarts.get((slot, reason), 0) for reason, asked in facts.restart_reasons.items()
        }
        self.now = now

    def heartbeat_age(self) -> float | None:
        """Seconds since the event loop of the serving worker last turned; None before its first turn."""
        beat = self.current.row.heartbeat if self.current else 0
        return max(0, self.now - beat) / 1e9 if beat else None

    def progress_age(self) -> float | None:
        """Seconds since the serving worker last made progress, or was idle; None before its first turn."""
        progress = self.current.row.progress if self.current else 0
        return max(0, self.now - progress) / 1e9 if progress else None

    def busy(self) -> float | None:
        """How busy the serving worker is, from 0 to 1; None if there is none."""
        return self.current.row.busy / BUSY_UNIT if self.current else None

    def start_time(self) -> float | None:
        """When the serving worker started, in seconds since 1970; None until it has written this."""
        return self.current.row.started_at or None if self.current else None


@dataclass(frozen=True, slots=True)
class _Shown:
    """A family with a series for each slot. A slot without a value is left out."""

    name: str
    documentation: str
    value: Callable[[SlotView], float | None]


def _sum(read: Callable[[Row], int]) -> Callable[[SlotView], float | None]:
    """Return the sum over the living workers. None for a slot that was scaled away, once its workers have ended."""
    return lambda view: sum(map(read, view.rows)) if view.rows or view.is_wanted else None


def _if_living(read: Callable[[SlotView], float]) -> Callable[[SlotView], float | None]:
    return lambda view: read(view) if view.rows or view.is_wanted else None


_GAUGES = (
    _Shown("clusterd_http_threads_busy", "Threads that run a request.", _sum(lambda row: row.threads_busy)),
    _Shown("clusterd_http_queue_length", "Requests that wait for a thread.", _sum(lambda row: row.queue_length)),
    _Shown(
        "clusterd_worker_up",
        "Whether the slot has a worker that serves.",
        lambda view: view.up if view.is_wanted else None,
    ),
    _Shown(
        "clusterd_worker_generation",
        "Generation of the application in the slot.",
        lambda view: view.current.generation if view.current else None,
    ),
    _Shown(
        "clusterd_worker_start_time_seconds",
        "When the slot's worker started.",
        lambda view: view.start_time(),
    ),
    _Shown(
        "clusterd_worker_heartbeat_age_seconds",
        "Time since the event loop of the slot's worker turned.",
        lambda view: view.heartbeat_age(),
    ),
    _Shown(
        "clusterd_worker_progress_age_seconds",
        "Time since a thread or the loop of the slot's worker made progress with a request, or had none.",
        lambda view: view.progress_age(),
    ),
    _Shown(
        "clusterd_worker_busy_ratio",
        "Part of the last quarter of a second in which the slot's worker has worked, or would have if it had a CPU.",
        lambda view: view.busy(),
    ),
    _Shown(
        "clusterd_worker_resident_memory_bytes",
        "Resident memory, pages shared with the template included.",
        _if_living(lambda view: view.resident_bytes),
    ),
    _Shown("clusterd_worker_open_fds", "Open file descriptors.", _if_living(lambda view: view.open_fds)),
)

_COUNTERS = (_Shown("clusterd_worker_cpu_seconds", "CPU time, user and system.", lambda view: view.cpu_seconds),)


def slot_families(views: Sequence[SlotView], refused_by_master: int | None) -> Iterator[Metric]:
    """Yield all metric families that have a series for each slot: those of `Row`, and what the master knows beside.

    `refused_by_master` belongs to no slot. It is None in all parts of the page but one.
    """
    for series in SERIES:
        yield from _families_of(series, views, refused_by_master)
    for shown in _GAUGES:
        yield _filled(GaugeMetricFamily(shown.name, shown.documentation, labels=["worker"]), shown, views)
    for shown in _COUNTERS:
        yield _filled(CounterMetricFamily(shown.name, shown.documentation, labels=["worker"]), shown, views)
    yield _restarts(views)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, shown: _Shown, views: Sequence[SlotView]) -> Metric:
    for view in views:
        value = shown.value(view)
        if value is not None:
            family.add_metric(view.label, value)
    return family


def _families_of(series: Series, views: Sequence[SlotView], refused_by_master: int | None) -> Iterator[Metric]:
    """Yield the families of one declaration of `Row`; none for a number that the page does not show."""
    match series:
        case Gauge():
            yield _gauge(series, views)
        case Counter():
            yield _counter(series, views)
        case LabelledCounter():
            family = _labelled_counter(series, views)
            if series is Row.refused and refused_by_master is not None:
                # Of no slot: the master has no worker to which it could give these connections.
                family.add_metric(["", "no_worker"], refused_by_master)
            yield family
        case Histogram():
            yield _histogram(series, views)
        case Responses():
            yield _requests(series, views)
            yield _durations(series, views)


def _gauge(series: Gauge, views: Sequence[SlotView]) -> Metric:
    shown = _Shown(series.family, series.documentation, _sum(lambda row: row.integers[series.start]))
    return _filled(GaugeMetricFamily(series.family, series.documentation, labels=["worker"]), shown, views)


def _counter(series: Counter, views: Sequence[SlotView]) -> Metric:
    family = CounterMetricFamily(series.family, series.documentation, labels=["worker"])
    for view in views:
        family.add_metric(view.label, series.of(view.totals))
    return family


def _labelled_counter(series: LabelledCounter, views: Sequence[SlotView]) -> CounterMetricFamily:
    family = CounterMetricFamily(series.family, series.documentation, labels=["worker", series.label])
    for view in views:
        for value, count in series.of(view.totals).items():
            family.add_metric([*view.label, value], count)
    return family


def _histogram(series: Histogram, views: Sequence[SlotView]) -> Metric:
    family = HistogramMetricFamily(series.family, series.documentation, labels=["worker"])
    bounds = _bounds(series.bounds)
    for view in views:
        counts, seconds = series.of(view.totals)
        family.add_metric(view.label, list(zip(bounds, accumulate(counts), strict=True)), seconds)
    return family


def _requests(series: Responses, views: Sequence[SlotView]) -> Metric:
    family = CounterMetricFamily(series.family, series.documentation, labels=["worker", "code"])
    for view in views:
        for code, count in series.by_class(view.totals).items():
            family.add_metric([*view.label, code], count)
    return family


def _durations(series: Responses, views: Sequence[SlotView]) -> Metric:
    """The histogram of each class. Those of 1xx and of unknown codes are long lists of zeros until there is one."""
    family = HistogramMetricFamily(series.durations, series.explanation, labels=["worker", "code"])
    bounds = _bounds(series.bounds)
    for view in views:
        for code, (counts, seconds) in series.durations_by_class(view.totals).items():
            if code in _ALWAYS_SHOWN or any(counts):
                family.add_metric([*view.label, code], list(zip(bounds, accumulate(counts), strict=True)), seconds)
    return family


def _bounds(seconds: Sequence[float]) -> list[str]:
    return [*map(str, seconds), "+Inf"]


def _restarts(views: Sequence[SlotView]) -> Metric:
    family = CounterMetricFamily(
        "clusterd_worker_restarts",
        "Workers that were replaced or removed, by reason, and whether that was asked for.",
        labels=["worker", "reason", "asked"],
    )
    for view in views:
        for (reason, asked), count in sorted(view.restarts.items()):
            family.add_metric([*view.label, reason, "yes" if asked else "no"], count)
    return family

"""The metrics of all processes as the application's own route for metrics shows them, whichever worker it is in.

As prometheus_client's MultiProcessCollector shows those of several processes: without a label that tells them apart,
except for gauges of the modes `all` and `liveall`, which have the worker's slot where that one has a pid.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from clusterd.metrics.regions.arena import TEMPLATE_SLOT
from clusterd.metrics.regions.histograms import distributions
from clusterd.metrics.regions.merging import Merged
from clusterd.metrics.regions.reading import Snapshot
from clusterd.metrics.regions.series import BOUND, HISTOGRAM, Rule, Series, Shape, with_worker


class ViewedSample(NamedTuple):
    """One sample as it is shown."""

    name: str
    labels: dict[str, str]
    value: float


class View:
    """All processes at one moment."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._definitions = snapshot.definitions()
        self._values = Merged(process.contribution for process in snapshot.processes).values
        self._by_slot = {
            str(slot): Merged(process.contribution for process in processes).values
            for slot, processes in snapshot.by_slot().items()
            if slot != TEMPLATE_SLOT
        }
        self._of_metric: defaultdict[str, list[Series]] = defaultdict(list)
        for series in self._values:
            name = series.group[0]
            if self._definitions[name].group == series.group:
                self._of_metric[name].append(series)

    def metrics(self) -> list[Shape]:
        """The metrics, by their definitions."""
        return [self._definitions[name] for name in self._of_metric]

    def samples(self, name: str, kind: str) -> list[ViewedSample]:
        """The samples of a metric. Empty if the metric of this name is of another kind by now."""
        definition = self._definitions.get(name)
        if definition is None or definition.kind != kind:
            return []
        found = self._of_metric.get(name, [])
        return list(self._histogram(name, found) if kind == HISTOGRAM else self._simple(found))

    def _simple(self, found: Iterable[Series]) -> Iterator[ViewedSample]:
        for series in found:
            if series.rule is not Rule.NEWEST:
                yield ViewedSample(series.sample, dict(series.labels), self._values[series])
                continue
            for slot, values in self._by_slot.items():
                if series in values:
                    yield ViewedSample(series.sample, with_worker(series.labels, slot), values[series])

    def _histogram(self, name: str, found: Iterable[Series]) -> Iterator[ViewedSample]:
        for distribution in distributions(found):
            count = 0.0
            labels = dict(distribution.labels)
            for _, bound, series in distribution.buckets:
                count += self._values[series]
                yield ViewedSample(f"{name}_bucket", {**labels, BOUND: bound}, count)
            if distribution.has_sum and distribution.total is not None:
                yield ViewedSample(f"{name}_count", labels, count)
                yield ViewedSample(f"{name}_sum", labels, self._values[distribution.total])

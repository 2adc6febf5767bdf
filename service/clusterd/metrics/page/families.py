"""Metric families as lines of text. The lines of the samples are the same in both of Prometheus's formats.

The classes are those of prometheus_client that the page needs, under the same names. They write each sample at once as
the line that it becomes. With prometheus_client itself a page for 64 workers takes three times as long in the text
format and five times as long in OpenMetrics, and its import would stop the master's loop for 50 ms at the first scrape.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from clusterd.metrics.page.negotiation import Form


class Metric:
    """A family: the name without the suffix of its samples, what it tells, and the lines of its samples."""

    kind = "gauge"
    text_kind = "gauge"
    """The type in the text format, which knows fewer types."""
    suffix = ""
    """What the names of the samples have after the name of the family."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str] = ()) -> None:
        self.name = name
        self.documentation = documentation
        self.lines: list[str] = []
        self._labels = tuple(labels)

    def header(self, form: Form) -> str:
        """The lines before those of the samples. In the text format, they have the name of the samples."""
        if form is Form.OPENMETRICS:
            name, kind, documentation = self.name, self.kind, escaped(self.documentation)
        else:
            name, kind = self.name + self.suffix, self.text_kind
            documentation = self.documentation.replace("\\", "\\\\").replace("\n", "\\n")
        return f"# HELP {name} {documentation}\n# TYPE {name} {kind}\n"

    def add_metric(self, labels: Sequence[str], value: float) -> None:
        """Add a sample with these values of the labels."""
        start = prefix(self.name + self.suffix, self._labels, tuple(labels))
        self.lines.append(f"{start}{number(value)}\n")


class GaugeMetricFamily(Metric):
    """Values that go up and down. `value` is that of a family without labels."""

    def __init__(self, name: str, documentation: str, value: float | None = None, labels: Sequence[str] = ()) -> None:
        super().__init__(name, documentation, labels)
        if value is not None:
            self.add_metric((), value)


class CounterMetricFamily(GaugeMetricFamily):
    """Values that only grow."""

    kind = text_kind = "counter"
    suffix = "_total"


class InfoMetricFamily(Metric):
    """Text, as the labels of one sample with the value 1."""

    kind = "info"
    suffix = "_info"

    def __init__(self, name: str, documentation: str, value: Mapping[str, str]) -> None:
        super().__init__(name, documentation, tuple(value))
        self.add_metric(tuple(value.values()), 1)


class HistogramMetricFamily(Metric):
    """Counts by upper bound, and the sum of what was counted."""

    kind = text_kind = "histogram"

    def add_metric(self, labels: Sequence[str], buckets: Iterable[tuple[str, float]], sum_value: float) -> None:  # type: ignore[override]
        """Add a histogram. `buckets`: each upper bound, the last of which is +Inf, and the count up to it."""
        values, names, count = tuple(labels), (*self._labels, "le"), 0.0
        for bound, count in buckets:
            self.lines.append(f"{prefix(f'{self.name}_bucket', names, (*values, bound))}{number(count)}\n")
        for suffix, value in (("_count", count), ("_sum", sum_value)):
            self.lines.append(f"{prefix(self.name + suffix, self._labels, values)}{number(value)}\n")


@lru_cache(maxsize=1 << 16)
def prefix(name: str, labels: tuple[str, ...], values: tuple[str, ...]) -> str:
    """What stands before the value of a sample. Cached, because it is the same in each scrape.

    A page of more series than the cache holds is made at a third of the speed.
    """
    pairs = ",".join(f'{label}="{escaped(value)}"' for label, value in sorted(zip(labels, values, strict=True)))
    return f"{name}{{{pairs}}} " if pairs else f"{name} "


def escaped(value: str) -> str:
    """The value of a label, and in OpenMetrics the text of a help line, as it stands in a line."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def number(value: float) -> str:
    """A value as text, a whole number with a decimal point too, as prometheus_client writes it."""
    if type(value) is int:
        return f"{value}.0"
    value = float(value)
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"

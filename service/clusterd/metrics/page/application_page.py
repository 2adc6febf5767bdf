"""The part of the metrics page that the application has filled: every series of it, by worker.

The page is yielded in small pieces, so that the master's loop can turn between them: 8 workers with 10,000 series each
take some 100 ms.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field

from clusterd.metrics.application.answer import ToldMetric
from clusterd.metrics.page.application_text import (
    header,
    line_head,
    line_tail,
    metric_name,
    sample_names,
    timestamp,
)
from clusterd.metrics.page.families import number
from clusterd.metrics.regions.arena import TEMPLATE_SLOT
from clusterd.metrics.regions.histograms import distributions
from clusterd.metrics.regions.merging import Merged
from clusterd.metrics.regions.reading import ProcessValues, Snapshot
from clusterd.metrics.regions.series import BOUND, HISTOGRAM, WORKER, Series, Shape
from clusterd.records import dataclass

TEMPLATE = "template"
"""The label `worker` of what imports have counted."""
RESERVED = "clusterd_"
"""What the names of clusterd's own metrics begin with. No metric of the application may."""
DROPPED = "clusterd_application_series_dropped"
AGE = "clusterd_application_answer_age_seconds"
_LINES_AT_ONCE = 2000
_CREATED = ("_created",)
"""Left out, as prometheus_client does for several processes: a slot is older than its process."""
_OPEN_ONLY = ("_gsum", "_gcount")

_HEADS_AT_ONCE = 200

_Group = tuple[str, str, str]
_MadeOf = tuple[tuple[Sequence[Series], int], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker has told of itself, and how many seconds ago."""

    metrics: tuple[ToldMetric, ...]
    age: float


@dataclass(frozen=True, slots=True)
class _Histogram:
    """The beginnings of the lines of a histogram with the same labels."""

    buckets: tuple[tuple[str, Series], ...]
    count: str
    total: tuple[str, Series] | None


@dataclass(slots=True)
class _Layout:
    """Which lines a slot has, by metric. It is made anew when the slot's processes have other series."""

    made_of: _MadeOf
    """The lists of series of its processes, and how long they were."""
    simple: defaultdict[_Group, list[Series]] = field(default_factory=lambda: defaultdict(list))
    histograms: defaultdict[_Group, list[_Histogram]] = field(default_factory=lambda: defaultdict(list))


class ApplicationPage:
    """Makes the lines, and remembers what they begin with."""

    def __init__(self) -> None:
        self._layouts: dict[int, _Layout] = {}
        self.left_out: dict[str, str] = {}
        """Why metrics were left out of the last page, by name."""

    def lines(self, snapshot: Snapshot, answers: Mapping[int, Answer], *, is_open: bool) -> Iterator[str]:
        """Yield the page, in pieces."""
        self.left_out = {}
        slots = snapshot.by_slot()
        self._layouts = {slot: layout for slot, layout in self._layouts.items() if slot in slots}
        values: dict[int, dict[Series, float]] = {}
        for slot, processes in slots.items():
            merged = Merged()
            for process in processes:
                merged.add(process.contribution)
                yield ""
            values[slot] = merged.values
            yield from self._lay_out(slot, processes)
        definitions = snapshot.definitions()
        told = _by_name(answers)
        names: set[str] = set()
        yield _own_lines(slots, answers, is_open=is_open)
        for family in sorted({*definitions, *told}):
            definition = definitions.get(family)
            kind, text = _kind_of(definition, told.get(family, {}))
            if not self._claims(family, kind, names):
                continue
            yield header(metric_name(family), kind, text, is_open=is_open)
            if definition is not None:
                for slot, of_slot in values.items():
                    yield from self._of_slot(slot, definition, of_slot)
            yield from _told_lines(told.get(family, {}), kind, is_open=is_open)

    def _claims(self, family: str, kind: str, names: set[str]) -> bool:
        """Take the names of a metric. Returns False if another one has any of them."""
        if metric_name(family).startswith(RESERVED):
            self.left_out[family] = f"names that begin with {RESERVED} are clusterd's own"
            return False
        wanted = {metric_name(family)} | {metric_name(name) for name in sample_names(family, kind)}
        if clash := wanted & names:
            self.left_out[family] = f"{min(clash)} is another metric's name"
            return False
        names |= wanted
        return True

    def _lay_out(self, slot: int, processes: list[ProcessValues]) -> Iterator[str]:
        """Make the layout of a slot, in steps, unless the known one is good still."""
        made_of = tuple((process.contents.series, len(process.contents.cells) // 2) for process in processes)
        known = self._layouts.get(slot)
        if known is not None and _are_the_same(known.made_of, made_of):
            return
        layout = _Layout(made_of)
        by_group: dict[_Group, dict[Series, None]] = {}
        for series_of_process, length in made_of:
            for series in series_of_process[:length]:
                by_group.setdefault(series.group, {})[series] = None
            yield ""
        for group, all_found in by_group.items():
            # Every worker writes its names itself. They must not be those of another metric.
            allowed = sample_names(group[0], group[1])
            found = [series for series in all_found if series.sample in allowed]
            if group[1] == HISTOGRAM:
                layout.histograms[group] = list(_histograms(group[0], found))
            else:
                layout.simple[group] = found
                for number, series in enumerate(found):
                    series.head = series.head or line_head(series.sample, series.labels)
                    if number % _HEADS_AT_ONCE == 0:
                        yield ""
            yield ""
        self._layouts[slot] = layout

    def _of_slot(self, slot: int, shape: Shape, values: Mapping[Series, float]) -> Iterator[str]:
        layout, tail = self._layouts[slot], line_tail(TEMPLATE if slot == TEMPLATE_SLOT else str(slot))
        simple = layout.simple.get(shape.group, [])
        for start in range(0, len(simple), _LINES_AT_ONCE):
            yield "".join(
                f"{series.head}{tail}{number(values[series])}\n"
                for series in simple[start : start + _LINES_AT_ONCE]
                if series in values
            )
        histograms = layout.histograms.get(shape.group, [])
        step = _LINES_AT_ONCE // 16
        for start in range(0, len(histograms), step):
            yield "".join(_histogram_lines(each, tail, values) for each in histograms[start : start + step])


def _own_lines(slots: Mapping[int, list[ProcessValues]], answers: Mapping[int, Answer], *, is_open: bool) -> str:
    """Return clusterd's own metrics of those of the application."""
    dropped = {slot: float(sum(each.contents.dropped for each in slots[slot])) for slot in slots}
    ages = {slot: answer.age for slot, answer in sorted(answers.items())}
    lines = []
    for name, kind, text, values in (
        (
            DROPPED,
            "counter",
            "Series of the application that were dropped: metrics.series allows no more.",
            dropped,
        ),
        (AGE, "gauge", "Age of what the worker has told of metrics that it does not keep in memory.", ages),
    ):
        total = "_total" if kind == "counter" else ""
        lines.append(header(name, kind, text, is_open=is_open))
        lines += (f'{name}{total}{{{WORKER}="{slot}"}} {number(value)}\n' for slot, value in values.items() if slot)
    return "".join(lines)


def _are_the_same(known: _MadeOf, found: _MadeOf) -> bool:
    return len(known) == len(found) and all(
        first is second and length == other for (first, length), (second, other) in zip(known, found, strict=True)
    )


def _histograms(name: str, found: Sequence[Series]) -> Iterator[_Histogram]:
    for distribution in distributions(found):
        labels = distribution.labels
        buckets = tuple(
            (line_head(f"{name}_bucket", (*labels, (BOUND, bound))), series)
            for _, bound, series in distribution.buckets
        )
        total = distribution.total if distribution.has_sum else None
        yield _Histogram(
            buckets,
            line_head(f"{name}_count", labels),
            None if total is None else (line_head(f"{name}_sum", labels), total),
        )


def _histogram_lines(histogram: _Histogram, tail: str, values: Mapping[Series, float]) -> str:
    count = 0.0
    lines = []
    for head, series in histogram.buckets:
        count += values.get(series, 0.0)
        lines.append(f"{head}{tail}{number(count)}\n")
    if histogram.total is not None:  # OpenMetrics wants both or none of them.
        lines.append(f"{histogram.count}{tail}{number(count)}\n")
        head, series = histogram.total
        lines.append(f"{head}{tail}{number(values.get(series, 0.0))}\n")
    return "".join(lines)


# ---- what the workers have told


def _by_name(answers: Mapping[int, Answer]) -> dict[str, dict[int, ToldMetric]]:
    found: dict[str, dict[int, ToldMetric]] = {}
    for slot, answer in sorted(answers.items()):
        for metric in answer.metrics:
            found.setdefault(metric.name, {}).setdefault(slot, metric)
    return found


def _kind_of(definition: Shape | None, told: Mapping[int, ToldMetric]) -> tuple[str, str]:
    """Return kind and help of a metric. If the workers do not agree, the last slot's answer counts."""
    if definition is not None:
        return definition.kind, definition.help
    last = list(told.values())[-1]
    return last.kind, last.help


def _told_lines(told: Mapping[int, ToldMetric], kind: str, *, is_open: bool) -> Iterator[str]:
    for slot, metric in told.items():
        if metric.kind != kind:
            continue
        allowed, seen = sample_names(metric.name, kind), set()
        allowed -= {metric.name + suffix for suffix in (_CREATED if is_open else (*_CREATED, *_OPEN_ONLY))}
        lines = []
        for sample in metric.samples:
            head = line_head(sample.name, sample.labels)
            if sample.name in allowed and head not in seen:
                seen.add(head)
                moment = "" if sample.timestamp is None else f" {timestamp(sample.timestamp, is_open=is_open)}"
                lines.append(f"{head}{line_tail(str(slot))}{number(sample.value)}{moment}\n")
        yield "".join(lines)

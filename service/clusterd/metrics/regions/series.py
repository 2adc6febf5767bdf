"""What identifies a series of the application, as it is written into a region and read from it."""

import json
from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

Labels = tuple[tuple[str, str], ...]
"""Names and values, in the order of the names."""

GAUGE: Final = "gauge"
HISTOGRAM: Final = "histogram"
SUMMARY: Final = "summary"
COUNTER: Final = "counter"
UNKNOWN: Final = "unknown"
KINDS: Final = frozenset((COUNTER, GAUGE, SUMMARY, HISTOGRAM, UNKNOWN, "gaugehistogram", "info", "stateset"))
"""All that Prometheus's formats know."""
BOUND: Final = "le"
"""The label that has the upper bound of a bucket."""


WORKER: Final = "worker"
"""The label that has the number of the slot."""


MOST_LABELS: Final = 100
"""Of one series."""
_SHOWN_CHARACTERS: Final = 100
"""Of what is damaged, in the reason."""


class Damaged(ValueError):
    """Bytes in a region that no process of ours has written like this."""


class Rule(Enum):
    """How the values of several processes become one."""

    ADD = "add"
    NEWEST = "newest"
    GREATEST = "greatest"
    LEAST = "least"
    LATEST = "latest"
    """The one that was set last, by its timestamp."""


_RULES: Final = {
    "all": Rule.NEWEST,
    "max": Rule.GREATEST,
    "min": Rule.LEAST,
    "sum": Rule.ADD,
    "mostrecent": Rule.LATEST,
}
_LIVE: Final = "live"


class Shape(NamedTuple):
    """What the series of one metric and one name of its samples have in common.

    A tuple, because no code in Python runs when it is looked up in a dictionary (`application/memory.py`).
    """

    kind: str
    family: str
    """The name of the metric."""
    sample: str
    """The name of the series: the metric's, with what its kind adds (_total, _bucket, _sum, _count)."""
    label_names: tuple[str, ...]
    help: str
    mode: str
    """How the values of several processes become one; for gauges only (`multiprocess_mode`)."""

    @property
    def group(self) -> tuple[str, str, str]:
        """Name, kind and mode. Series of one name are shown together if they have the same."""
        return self.family, self.kind, self.mode


class Series:
    """One series. There is one object for it in a process, as long as it is in use (`Catalog`)."""

    __slots__ = ("__weakref__", "group", "head", "is_gauge", "is_live", "labels", "rule", "sample")

    def __init__(self, group: tuple[str, str, str], sample: str, labels: Labels) -> None:
        self.group = group
        self.sample = sample
        self.labels = labels
        self.head = ""
        """What its line on the page begins with. Written when it is first shown."""
        mode = group[2]
        self.is_gauge = group[1] == GAUGE
        self.is_live = mode.startswith(_LIVE)
        """Whether it goes with the last process that has it."""
        self.rule = _RULES.get(mode.removeprefix(_LIVE), Rule.NEWEST) if self.is_gauge else Rule.ADD


class Catalog:
    """Makes one object of equal series, so that they are compared by identity."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[tuple[tuple[str, str, str], str, Labels], Series] = WeakValueDictionary()

    def series(self, shape: Shape, label_values: Sequence[str]) -> Series:
        """Return the object for a series."""
        labels = tuple(sorted(zip(shape.label_names, label_values, strict=True)))
        key = shape.group, shape.sample, labels
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = Series(*key)
        return found


def with_worker(labels: Labels, worker: str) -> dict[str, str]:
    """Add the label for the slot. A label of the application with this name gets another one, as in Prometheus."""
    named = dict(labels)
    if WORKER in named:
        name = WORKER
        while name in named:
            name = f"exported_{name}"
        named[name] = named.pop(WORKER)
    return {**named, WORKER: worker}


# ---- as bytes


def encode_shape(shape: Shape) -> bytes:
    """Return the record that describes the next shape of a region."""
    fields = [shape.kind, shape.family, shape.sample, shape.label_names, shape.help, shape.mode]
    return json.dumps(fields).encode()


def encode_series(shape_number: int, label_values: Sequence[str]) -> bytes:
    """Return the record of the next series of a region."""
    return json.dumps([shape_number, *label_values]).encode()


def decode(record: bytes, shapes: list[Shape], catalog: Catalog) -> Series | None:
    """Return the series of a record. A record that describes a shape adds it to `shapes`, and the result is None.

    Raises Damaged.
    """
    try:
        first, *rest = json.loads(record)
    except (ValueError, TypeError, RecursionError) as error:
        raise Damaged(f"not a key: {error}") from error
    if isinstance(first, str):
        shapes.append(_shape(first, rest))
        return None
    if type(first) is not int or not 0 <= first < len(shapes):
        raise Damaged(f"a series of shape {first!r}"[:_SHOWN_CHARACTERS] + f", of {len(shapes)}")
    shape = shapes[first]
    if len(rest) != len(shape.label_names) or not all(isinstance(value, str) for value in rest):
        raise Damaged(f"a series of {shape.sample} with other labels")
    return catalog.series(shape, rest)


def _shape(kind: str, fields: list[object]) -> Shape:
    match fields:
        case [str(family), str(sample), [*names], str(text), str(mode)] if all(isinstance(name, str) for name in names):
            if len(names) > MOST_LABELS:
                raise Damaged(f"a shape with {len(names)} labels")
            known = kind if kind in KINDS else UNKNOWN
            return Shape(known, family, sample, tuple(map(str, names)), text, mode)
    raise Damaged("not a shape")

"""What the values of several processes are together. Pure.

The values of the dead are one more contribution, in which each series has one value: of counters the sum, of gauges
what their mode keeps. A timestamp is there that of the value, or for the mode `all` the number of the process's lease.
"""

from array import array
from collections.abc import Iterable, Sequence
from math import isfinite

from clusterd.metrics.regions.region import HIDDEN, SET, UNSET
from clusterd.metrics.regions.series import Rule, Series
from clusterd.records import dataclass


@dataclass(frozen=True, slots=True)
class Contribution:
    """The values of one process, or of the dead of one slot."""

    series: Sequence[Series]
    """May be longer than `cells` has values for."""
    cells: "array[float]"
    """Value and timestamp of each series."""


class Merged:
    """The values of several processes, of which the newest comes last, and the dead first."""

    def __init__(self, contributions: Iterable[Contribution] = ()) -> None:
        self.values: dict[Series, float] = {}
        self._stamps: dict[Series, float] = {}
        """Of gauges."""
        for contribution in contributions:
            self.add(contribution)

    def add(self, contribution: Contribution) -> None:
        """Add the next contribution."""
        values, cells = self.values, contribution.cells
        for series, value, stamp in zip(contribution.series, cells[::2], cells[1::2], strict=False):
            if series.is_gauge:
                self._add_gauge(series, value, stamp)
            else:
                values[series] = values.get(series, 0.0) + value

    def _add_gauge(self, series: Series, value: float, stamp: float) -> None:
        if stamp == HIDDEN:
            if series.rule is Rule.NEWEST:
                self.values.pop(series, None)
                self._stamps.pop(series, None)
            return
        known = self.values.get(series)
        if known is None:
            if series.rule is not Rule.LATEST or stamp != UNSET:
                self.values[series], self._stamps[series] = value, stamp
            return
        if stamp != UNSET:
            both = (known, self._stamps[series]), (value, stamp)
            self.values[series], self._stamps[series] = _together(series.rule, *both)


Pair = tuple[float, float]
"""A value and its timestamp."""


def _together(rule: Rule, known: Pair, other: Pair) -> Pair:
    """Return what two values of a gauge are together. The other one was set."""
    if rule is Rule.ADD:
        return known[0] + other[0], SET
    if known[1] == UNSET:
        return other
    match rule:
        case Rule.GREATEST:
            return max(known, other)
        case Rule.LEAST:
            return min(known, other)
        case Rule.LATEST:
            return max(known, other, key=lambda pair: pair[1])
        case _:
            return other


def folded(series: Series, kept: Pair | None, dead: Pair, lease: int) -> Pair:
    """Return what stays of a series after a death. `kept` is what has stayed of those that died before.

    Not for series that go with their process.
    """
    value, stamp = dead
    if not series.is_gauge:
        before = 0.0 if kept is None else kept[0]
        return (before + value if isfinite(value) else before), 0.0
    if series.rule is Rule.NEWEST:
        # A predecessor that drains may die after its successor.
        if kept is not None and kept[1] != HIDDEN and (stamp == UNSET or kept[1] > lease):
            return kept
        return value, stamp if stamp in (UNSET, HIDDEN) else float(lease)
    if kept is None or kept[1] == HIDDEN:
        return dead
    return kept if stamp in (UNSET, HIDDEN) else _together(series.rule, kept, dead)

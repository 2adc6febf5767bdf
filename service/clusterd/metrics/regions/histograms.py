"""Puts the series of a histogram together."""

from collections.abc import Iterable
from dataclasses import field
from math import inf

from clusterd.metrics.regions.series import BOUND, Labels, Series
from clusterd.records import dataclass


@dataclass(slots=True)
class Distribution:
    """The buckets of a histogram with the same labels, by their upper bounds, and the sum."""

    labels: Labels
    buckets: list[tuple[float, str, Series]] = field(default_factory=list)
    total: Series | None = None

    @property
    def is_whole(self) -> bool:
        """Whether there is a count of all observations: not if there was no room for all of its series."""
        return bool(self.buckets) and self.buckets[-1][0] == inf

    @property
    def has_sum(self) -> bool:
        """Whether the sum only grows. It may go down where there are buckets for negative values."""
        return self.total is not None and self.buckets[0][0] >= 0


def distributions(series: Iterable[Series]) -> list[Distribution]:
    """Return the distributions of one histogram, as far as they are whole."""
    found: dict[Labels, Distribution] = {}
    for each in series:
        bound = next((value for name, value in each.labels if name == BOUND), None)
        labels = each.labels if bound is None else tuple(pair for pair in each.labels if pair[0] != BOUND)
        distribution = found.get(labels)
        if distribution is None:
            distribution = found[labels] = Distribution(labels)
        if bound is None:
            distribution.total = each
        elif (limit := _number(bound)) is not None:
            distribution.buckets.append((limit, bound, each))
    for distribution in found.values():
        distribution.buckets.sort(key=lambda bucket: bucket[0])
    return [distribution for distribution in found.values() if distribution.is_whole]


def _number(bound: str) -> float | None:
    try:
        return float(bound)
    except ValueError:
        return None

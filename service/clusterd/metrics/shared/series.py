"""The kinds of series that a row of the scoreboard holds. `Row` declares one attribute for each series.

A declaration says where the numbers are, how they are read and written, and what the page shows of them. Processes find
a number by the order of the declarations, so those that share a scoreboard must agree about all of them (`LAYOUT`).
Standard library only.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final, Protocol, Self, overload


class Numbers(Protocol):
    """The same memory twice, as integers and as floating-point numbers: a `Row`."""

    integers: "memoryview[int]"
    floats: "memoryview[float]"


class Counted(Protocol):
    """What was counted in a row, or in several: the `Totals`."""

    def cells(self, series: "Series", /) -> tuple[int, ...]:
        """Return the integers of a series."""

    def sums_of(self, series: "Series", /) -> tuple[float, ...]:
        """Return the floating-point numbers of a series."""


class Series:
    """A part of a row. `family` is the name on the page, without `_total`; empty for a number that it does not show."""

    def __init__(self, family: str, documentation: str, cells: int = 1, sums: int = 0) -> None:
        self.family: Final = family
        self.documentation: Final = documentation
        self.cells: Final = cells
        """How many integers it has."""
        self.sums: Final = sums
        """How many floating-point numbers it has beside them."""
        self.start = 0
        """The cell of its first integer in the row."""
        self.sum_start = 0
        """The cell of its first floating-point number in the row."""

    def described(self) -> tuple[object, ...]:
        """Return what two processes must agree about."""
        return type(self).__name__, self.family, self.start, self.cells, self.sum_start, self.sums


class _Number(Series):
    """One integer, read and written as an attribute of the row."""

    @overload
    def __get__(self, row: None, owner: type[object]) -> Self: ...
    @overload
    def __get__(self, row: Numbers, owner: type[object]) -> int: ...
    def __get__(self, row: Numbers | None, owner: type[object]) -> Self | int:
        return self if row is None else row.integers[self.start]

    def __set__(self, row: Numbers, value: int) -> None:
        row.integers[self.start] = value


class Gauge(_Number):
    """A number that goes up and down. On the page it is the sum over the living workers of a slot."""


class Internal(_Number):
    """A number that other processes decide by and that the page does not show as it is."""

    def __init__(self) -> None:
        super().__init__("", "")


class Moment(Series):
    """A time in seconds since 1970, as a floating-point number. The page does not show it as it is."""

    def __init__(self) -> None:
        super().__init__("", "")

    @overload
    def __get__(self, row: None, owner: type[object]) -> Self: ...
    @overload
    def __get__(self, row: Numbers, owner: type[object]) -> float: ...
    def __get__(self, row: Numbers | None, owner: type[object]) -> Self | float:
        return self if row is None else row.floats[self.start]

    def __set__(self, row: Numbers, value: float) -> None:
        row.floats[self.start] = value


class Counter(_Number):
    """A number that only grows. The page adds the workers that a slot has had before."""

    def of(self, totals: Counted) -> int:
        """Return the count."""
        return totals.cells(self)[0]


class LabelledCounter(Series):
    """Numbers that only grow, one for each of `values` of a label. Every one is on the page from the start."""

    def __init__(self, family: str, documentation: str, label: str, values: Sequence[str]) -> None:
        super().__init__(family, documentation, len(values))
        self.label: Final = label
        self.values: Final = tuple(values)

    def add(self, row: Numbers, value: str, count: int = 1) -> None:
        """Count. Raises ValueError for a value that the label does not have."""
        row.integers[self.start + self.values.index(value)] += count

    def write(self, row: Numbers, counts: Sequence[int]) -> None:
        """Write the counts of all values, in their order."""
        for place, count in enumerate(counts):
            row.integers[self.start + place] = count

    def of(self, totals: Counted) -> dict[str, int]:
        """Return the counts by the label's value."""
        return dict(zip(self.values, totals.cells(self), strict=True))

    def described(self) -> tuple[object, ...]:
        """Return what two processes must agree about."""
        return *super().described(), self.values


class Histogram(Series):
    """Durations in seconds, counted by upper `bounds`. A duration that is equal to a bound belongs to it."""

    def __init__(self, family: str, documentation: str, bounds: Sequence[float]) -> None:
        super().__init__(family, documentation, len(bounds) + 1, sums=1)
        self.bounds: Final = tuple(bounds)

    def observe(self, row: Numbers, seconds: float) -> None:
        """Count a duration."""
        row.integers[self.start + bisect_left(self.bounds, seconds)] += 1
        row.floats[self.sum_start] += seconds

    def of(self, totals: Counted) -> tuple[tuple[int, ...], float]:
        """Return the counts, not cumulative, with those of longer durations as the last, and the sum of all."""
        return totals.cells(self), totals.sums_of(self)[0]

    def described(self) -> tuple[object, ...]:
        """Return what two processes must agree about."""
        return *super().described(), self.bounds


class Responses(Series):
    """Responses by code class and duration, in one table: a request costs one write, and the series always agree.

    The page shows a counter, `family`, and a histogram, `durations`. The last column of a class is for the refused
    requests, which the counter includes and the histogram does not: they would make an overloaded server look fast.
    """

    CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx", "other")

    def __init__(
        self, family: str, documentation: str, durations: str, explanation: str, bounds: Sequence[float]
    ) -> None:
        self.bounds: Final = tuple(bounds)
        self.width: Final = len(bounds) + 2
        super().__init__(family, documentation, self.width * len(self.CLASSES), sums=len(self.CLASSES))
        self.durations: Final = durations
        self.explanation: Final = explanation
        """The documentation of the histogram."""

    def class_of(self, status: int) -> int:
        """Return the place of the code class of a status (0 to 999)."""
        return (status // 100 if 100 <= status < 600 else len(self.CLASSES)) - 1

    def by_class(self, totals: Counted) -> dict[str, int]:
        """Return the number of all responses."""
        return {code: sum(counts) for code, counts in self._table(totals)}

    def durations_by_class(self, totals: Counted) -> dict[str, tuple[tuple[int, ...], float]]:
        """Return the durations of the responses that were not refusals, as `Histogram.of` does."""
        sums = totals.sums_of(self)
        return {code: (counts[:-1], seconds) for (code, counts), seconds in zip(self._table(totals), sums, strict=True)}

    def _table(self, totals: Counted) -> Iterable[tuple[str, tuple[int, ...]]]:
        cells = totals.cells(self)
        starts = range(0, self.cells, self.width)
        return zip(self.CLASSES, (cells[start : start + self.width] for start in starts), strict=True)

    def described(self) -> tuple[object, ...]:
        """Return what two processes must agree about."""
        return *super().described(), self.bounds, self.CLASSES

"""What the slots have counted over all the processes they have had."""

from collections import defaultdict
from collections.abc import Iterable

from clusterd.metrics.row import Row, Totals


class Ledger:
    """The folded counts of each slot's dead processes; with those of its living rows they make its series.

    So a series never goes back when a worker is replaced. A slot that was scaled away keeps its counts.
    """

    def __init__(self) -> None:
        self._totals: defaultdict[int, Totals] = defaultdict(Totals)
        self._cpu_seconds: defaultdict[int, float] = defaultdict(float)

    def fold(self, slot: int, row: Row, cpu_seconds: float) -> None:
        """Take over the counts of a reaped process, once, before its row is released."""
        self._totals[slot] += row.totals()
        self._cpu_seconds[slot] += cpu_seconds

    def slots(self) -> frozenset[int]:
        """The slots that have had a process which is dead."""
        return frozenset(self._totals)

    def totals(self, slot: int, living: Iterable[Row]) -> Totals:
        """A slot's counts: the dead's and those of its living rows."""
        return sum((row.totals() for row in living), start=self._totals.get(slot, Totals()))

    def cpu_seconds(self, slot: int) -> float:
        """CPU time of a slot's dead processes, user and system."""
        return self._cpu_seconds.get(slot, 0.0)

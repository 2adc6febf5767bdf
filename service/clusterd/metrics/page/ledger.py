"""The counts of each slot over all the workers it has had."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from clusterd.metrics.shared.row import Row, Totals


class Ledger:
    """Keeps the counts of each slot's dead workers. The counts of its living rows are added to them for the metrics.

    A series therefore never decreases when a worker is replaced. A slot that was scaled away keeps its counts.
    """

    def __init__(self) -> None:
        self._totals: defaultdict[int, Totals] = defaultdict(Totals)
        self._cpu_seconds: defaultdict[int, float] = defaultdict(float)
        self.folds = 0
        """How many workers' counts were added. Who has read rows reads them again when this has changed."""

    def fold(self, slot: int, row: Row, cpu_seconds: float) -> None:
        """Add the counts of a reaped worker. Call this once, before its row is released."""
        self._totals[slot] += row.totals()
        self._cpu_seconds[slot] += cpu_seconds
        self.folds += 1

    def kept(self) -> tuple[dict[int, Totals], dict[int, float]]:
        """What another program of the master goes on with: the counts and the CPU time, by slot."""
        return dict(self._totals), dict(self._cpu_seconds)

    def resume(self, totals: Mapping[int, Totals], cpu_seconds: Mapping[int, float]) -> None:
        """Go on with what an earlier program of the master has kept."""
        self._totals.update(totals)
        self._cpu_seconds.update(cpu_seconds)

    def slots(self) -> frozenset[int]:
        """The slots of which a worker has died."""
        return frozenset(self._totals)

    def totals(self, slot: int, living: Iterable[Row]) -> Totals:
        """The counts of a slot: of its dead workers and of its `living` rows."""
        return sum((row.totals() for row in living), start=self._totals.get(slot, Totals()))

    def cpu_seconds(self, slot: int) -> float:
        """CPU time of a slot's dead workers in seconds, user and system."""
        return self._cpu_seconds.get(slot, 0.0)

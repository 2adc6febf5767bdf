"""The arena: shared memory with a region for the application's values of each living worker, and of the dead.

As the scoreboard, the master makes it, a template opens it, and workers inherit it by fork. The region of a worker has
the number of its row in the scoreboard, and is leased and released with it: it has one writer, and a predecessor and a
successor of a slot never share one. The regions behind them are written by the master only, and hold what the dead
of each slot have left. The file is sparse: what was never written takes no memory.

Every process may compute what all of them have counted. It reads the regions with pread(2), and again if the master has
changed something meanwhile (`sequence`), because a count would be missing or counted twice otherwise.
"""

import fcntl
import os
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Self

from clusterd.linux.memory import Mapping, punch_hole
from clusterd.metrics.regions.region import MOST_SERIES, REGION_BYTES, REGION_LAYOUT, Header
from clusterd.metrics.shared.scoreboard import MAXIMUM_ROWS, free_runs
from clusterd.records import dataclass
from clusterd.runtime import originals

MAXIMUM_SLOTS: Final = 1025
"""Slot 0 is that of the templates."""
TEMPLATE_SLOT: Final = 0

_MAGIC: Final = 0x636C7573746572_41  # "clusterA"
_HEAD_BYTES: Final = 1 << 20
_SEQUENCE: Final = 2
_ROWS_IN_USE: Final = 3
_SLOTS_IN_USE: Final = 4
_MOST_LEASES: Final = 1 << 62
"""Far more than there can be. A number beyond was written by a worker."""
_UNKNOWN_STEPS: Final = 1 << 16
"""More leases and changes than an earlier program of the master can have made since it last wrote down what it knows.
The numbers are even, so that an even sequence stays even."""
_TABLE: Final = 8
_COLUMNS: Final = 3
_SIZE: Final = _HEAD_BYTES + (MAXIMUM_ROWS + MAXIMUM_SLOTS) * REGION_BYTES
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
assert (_TABLE + MAXIMUM_ROWS * _COLUMNS) * 8 <= _HEAD_BYTES


class ArenaError(Exception):
    """The memory is not an arena of this layout."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The lease of a region. The number of a later lease is greater."""

    row: int
    slot: int
    generation: int
    number: int
    most_series: int = MOST_SERIES
    """The setting `metrics.series` of the generation. Known to the master only."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What the master knows of an arena beside what is in its memory."""

    leases: tuple[Lease, ...]
    last_lease: int
    slots_in_use: int
    changes: int
    """The sequence of the readers (`Arena.sequence`)."""


class Arena:
    """Only the master calls `lease`, `release`, `keep` and `changing`. `descriptor` is the memfd that others attach."""

    def __init__(self, descriptor: int, *, is_masters: bool = False) -> None:
        self.descriptor = descriptor
        self._mapping = Mapping(descriptor, 0, _HEAD_BYTES, is_writable=is_masters)
        self._cells = self._mapping.view.cast("Q")
        self._is_masters = is_masters
        self._last_lease = 0
        self._leased: dict[int, Lease] = {}
        """By row. The master believes no worker what is whose, nor what it has written to the head itself: every worker
        can write there."""
        self._slots_in_use = 0
        self._changes = 0

    @classmethod
    def create(cls) -> Self:
        """Create an arena. Raises OSError."""
        descriptor = os.memfd_create("clusterd-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, _SIZE)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        arena = cls(descriptor, is_masters=True)
        arena._cells[0], arena._cells[1] = _MAGIC, REGION_LAYOUT
        return arena

    @classmethod
    def attach(cls, descriptor: int) -> Self:
        """Open the arena behind an inherited descriptor, and take over the descriptor. Raises ArenaError."""
        size = os.fstat(descriptor).st_size
        if size != _SIZE:
            raise ArenaError(f"an arena of {_SIZE} bytes was expected, found {size}")
        arena = cls(descriptor)
        found = tuple(arena._cells[:2].tolist())
        if found != (_MAGIC, REGION_LAYOUT):
            raise ArenaError(f"an arena with the header {(_MAGIC, REGION_LAYOUT)} was expected, found {found}")
        return arena

    @classmethod
    def go_on(cls, descriptor: int, kept: "Kept") -> Self:
        """Go on with the arena of an earlier program of the master, which may have been killed at any instruction.

        `kept` may be of before its last deaths and forks. What has ended since is not counted again, what has begun
        since is cleared. Of the memory, nothing is believed but what a region of the dead says of itself: every worker
        can write it, and spoil the region all the same. May be repeated. Raises OSError.
        """
        arena = cls(descriptor, is_masters=True)
        arena._leased = {lease.row: lease for lease in kept.leases}
        # No number is used twice: a region of the dead, or a reader, may know the numbers that `kept` does not.
        arena._last_lease = kept.last_lease + _UNKNOWN_STEPS
        arena._changes = kept.changes + kept.changes % 2 + _UNKNOWN_STEPS
        slots = (lease.slot + 1 for lease in kept.leases)
        arena._slots_in_use = max(kept.slots_in_use, TEMPLATE_SLOT + 1, *slots)
        with arena.changing():
            for lease in kept.leases:
                dead = Header.read(descriptor, cls.offset_of_slot(lease.slot))
                if dead.is_valid and dead.lease == lease.number:
                    punch_hole(descriptor, cls.offset_of_row(lease.row), REGION_BYTES)
            arena._write_head()
            for first, end in free_runs(arena._leased):
                punch_hole(descriptor, cls.offset_of_row(first), (end - first) * REGION_BYTES)
        return arena

    def _write_head(self) -> None:
        """Write what the master knows, for the others. What stays the same never reads as something else meanwhile."""
        table = array("Q", bytes(MAXIMUM_ROWS * _COLUMNS * 8))
        for row, lease in self._leased.items():
            table[row * _COLUMNS : (row + 1) * _COLUMNS] = array("Q", (lease.slot, lease.generation, lease.number))
        self._cells[0], self._cells[1] = _MAGIC, REGION_LAYOUT
        self._cells[_TABLE : _TABLE + len(table)] = memoryview(table)
        self._cells[_ROWS_IN_USE] = max(self._leased, default=-1) + 1
        self._cells[_SLOTS_IN_USE] = self._slots_in_use

    def kept(self) -> "Kept":
        """What another program of the master goes on with."""
        return Kept(tuple(self.leases()), self._last_lease, self._slots_in_use, self._changes)

    @property
    def sequence(self) -> int:
        """Odd while the master changes something. A reader that sees another number afterwards reads again."""
        return self._changes if self._is_masters else self._cells[_SEQUENCE]

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Have readers read again that read meanwhile. Not reentrant."""
        self._publish_change()
        try:
            yield
        finally:
            self._publish_change()

    def _publish_change(self) -> None:
        self._changes += 1
        self._cells[_SEQUENCE] = self._changes

    def lease(self, row: int, slot: int, generation: int, most_series: int = MOST_SERIES) -> None:
        """Lease the region of a row to a process that is about to be forked for `slot`."""
        self._last_lease += 1
        start = _TABLE + row * _COLUMNS
        with self.changing():
            self._cells[start], self._cells[start + 1], self._cells[start + 2] = slot, generation, self._last_lease
            self._leased[row] = Lease(row, slot, generation, self._last_lease, most_series)
            self._cells[_ROWS_IN_USE] = max(self._leased) + 1

    def release(self, row: int) -> None:
        """End a lease and clear the region. Call it within `changing`, after what the process has left was folded."""
        self._leased.pop(row, None)
        self._cells[_TABLE + row * _COLUMNS + 2] = 0
        self._cells[_ROWS_IN_USE] = max(self._leased, default=-1) + 1
        punch_hole(self.descriptor, self.offset_of_row(row), REGION_BYTES)

    def leases(self) -> list[Lease]:
        """The leases, oldest first."""
        if self._is_masters:
            return sorted(self._leased.values(), key=lambda lease: lease.number)
        return self._written_leases()

    def _written_leases(self) -> list[Lease]:
        rows = min(self._cells[_ROWS_IN_USE], MAXIMUM_ROWS)
        table = self._cells[_TABLE : _TABLE + rows * _COLUMNS].tolist()
        found = (Lease(row, *table[row * _COLUMNS : (row + 1) * _COLUMNS]) for row in range(rows))
        return sorted((lease for lease in found if 0 < lease.number < _MOST_LEASES), key=lambda lease: lease.number)

    def lease_of(self, row: int) -> Lease:
        """The lease of a row that is leased. For the master."""
        return self._leased[row]

    def keep(self, slot: int) -> None:
        """Note that there is something of the dead of a slot."""
        self._slots_in_use = max(self._slots_in_use, slot + 1)
        self._cells[_SLOTS_IN_USE] = self._slots_in_use

    @property
    def slots(self) -> range:
        """The slots that may have had processes, that of the templates included."""
        return range(self._slots_in_use if self._is_masters else min(self._cells[_SLOTS_IN_USE], MAXIMUM_SLOTS))

    @staticmethod
    def offset_of_row(row: int) -> int:
        """Where the region of a row begins."""
        return _HEAD_BYTES + row * REGION_BYTES

    @staticmethod
    def offset_of_slot(slot: int) -> int:
        """Where the region of a slot's dead begins."""
        return _HEAD_BYTES + (MAXIMUM_ROWS + slot) * REGION_BYTES

    def close(self) -> None:
        """Close the descriptor. What is mapped stays mapped."""
        originals.close(self.descriptor)

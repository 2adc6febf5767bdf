"""The memory that master and workers share: one row of numbers for each living worker, and then a table of the requests
that each has in hand.

The master reads it for metrics and hang detection, and can therefore answer in full while every worker hangs. A row is
leased to one process and has one writer, the event loop's thread of that process. A predecessor and a successor of a
slot have separate rows, because two writers in one row would lose counts. Every cell is eight aligned bytes, which the
processor reads and writes atomically, so there are no locks. Standard library only.

The tables have a part of their own behind the rows, of which a process maps only the table that it needs: a worker its
own, the master that of a worker that is stuck or dead. What comes later gets such a part too.
"""

import fcntl
import mmap
import os
from collections.abc import Iterable, Iterator
from typing import Final, Self

from clusterd.linux.memory import mapped, punch_hole
from clusterd.metrics.shared.row import LAYOUT, ROW_CELLS, Row
from clusterd.records import dataclass
from clusterd.runtime import originals
from clusterd.wire import in_hand

__all__ = ["LAYOUT", "MAXIMUM_ROWS", "SILENT_NANOSECONDS", "Peers", "Row", "Scoreboard", "ScoreboardError", "free_runs"]

MAXIMUM_ROWS: Final = 4096
"""Number of rows, draining predecessors included. The memory is sparse: an unused row costs none."""

SILENT_NANOSECONDS: Final = 600_000_000
"""A worker whose event loop has not turned for this long, more than two of its ticks, is not considered as a peer."""

_MAGIC: Final = 0x636C7573746572  # "cluster"
_CELL: Final = 8
_HEADER_BYTES: Final = mmap.PAGESIZE
HEADER: Final = (_MAGIC, LAYOUT, ROW_CELLS, MAXIMUM_ROWS, in_hand.LAYOUT)
_ROWS_IN_USE: Final = len(HEADER)
_FIRST: Final = _HEADER_BYTES // _CELL
_ROWS_END: Final = _HEADER_BYTES + MAXIMUM_ROWS * ROW_CELLS * _CELL
_TABLES: Final = -(-_ROWS_END // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
_TABLE_BYTES: Final = -(-in_hand.TABLE_BYTES // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
_SIZE: Final = _TABLES + MAXIMUM_ROWS * _TABLE_BYTES
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class ScoreboardError(Exception):
    """The memory is not a scoreboard of this layout, or has no free row."""


@dataclass(frozen=True, slots=True)
class Peers:
    """The capacity of the other workers that accept connections."""

    row: int
    """The row of the preferred worker: one with a free thread if there is any, and then the fewest connections."""
    least_connections: int
    """The open connections of that worker."""
    has_free_thread: bool
    """Whether that worker can run a request at once."""


def free_runs(leased: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the rows that are not leased: the first of each run of them, and the one after its last."""
    first = 0
    for row in (*sorted(leased), MAXIMUM_ROWS):
        if first < row:
            yield first, row
        first = row + 1


def _place_of(index: int) -> tuple[int, int]:
    """Return where the table of a row is, and its length."""
    if not 0 <= index < MAXIMUM_ROWS:
        raise IndexError(index)
    return _TABLES + index * _TABLE_BYTES, _TABLE_BYTES


class Scoreboard:
    """The master makes the scoreboard with `create`, a template opens it with `attach`, and workers inherit it by fork.

    Only the master leases and releases rows. `descriptor` is the memfd that another process attaches. It is closed on
    exec unless it is passed on.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        memory = mmap.mmap(descriptor, _ROWS_END)
        self._integers = memoryview(memory).cast("q")
        self._floats = memoryview(memory).cast("d")
        self._leased: set[int] = set()

    @classmethod
    def create(cls) -> Self:
        """Create a scoreboard. Its size is sealed: a process that shrank it would cause a SIGBUS in the others."""
        descriptor = os.memfd_create("clusterd-scoreboard", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, _SIZE)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        scoreboard = cls(descriptor)
        for index, value in enumerate(HEADER):
            scoreboard._integers[index] = value
        return scoreboard

    @classmethod
    def attach(cls, descriptor: int) -> Self:
        """Open the scoreboard behind an inherited descriptor, and take over the descriptor.

        Raises ScoreboardError if it is not a scoreboard or has another version. The descriptor then stays open.
        """
        size = os.fstat(descriptor).st_size
        if size != _SIZE:
            raise ScoreboardError(f"a scoreboard of {_SIZE} bytes was expected, found {size}")
        scoreboard = cls(descriptor)
        found = tuple(scoreboard._integers[: len(HEADER)].tolist())
        if found != HEADER:
            raise ScoreboardError(f"a scoreboard with the header {HEADER} was expected, found {found}")
        return scoreboard

    def take_over(self, rows: Iterable[int]) -> None:
        """Note the rows that an earlier program of the master has leased, and clear all others and their tables.

        That program may have been killed right after a fork or a death that it had not written down. Raises OSError.
        """
        self._leased.update(rows)
        for first, end in free_runs(self._leased):
            punch_hole(self.descriptor, (_FIRST + first * ROW_CELLS) * _CELL, (end - first) * ROW_CELLS * _CELL)
            punch_hole(self.descriptor, _TABLES + first * _TABLE_BYTES, (end - first) * _TABLE_BYTES)
        self._publish_rows_in_use()

    def lease(self) -> int:
        """Lease a row for a process that is about to be forked: the lowest free one, so that used rows stay together.

        Raises ScoreboardError if all rows are leased.
        """
        for index in range(MAXIMUM_ROWS):
            if index not in self._leased:
                self._leased.add(index)
                self._publish_rows_in_use()
                return index
        raise ScoreboardError(f"all {MAXIMUM_ROWS} rows are in use")

    def release(self, index: int) -> None:
        """Clear a row and end its lease. Call this after the process was reaped and the ledger has folded its counts.

        Raises KeyError if the row is not leased.
        """
        self._leased.remove(index)
        start = _FIRST + index * ROW_CELLS
        self._integers[start : start + ROW_CELLS] = memoryview(bytes(ROW_CELLS * _CELL)).cast("q")
        punch_hole(self.descriptor, *_place_of(index))  # The table costs no memory any more, and reads as zeros.
        self._publish_rows_in_use()

    def _publish_rows_in_use(self) -> None:
        self._integers[_ROWS_IN_USE] = max(self._leased, default=-1) + 1

    def row(self, index: int) -> Row:
        """Return a row. Its holder writes it; any process may read it. Raises IndexError."""
        if not 0 <= index < MAXIMUM_ROWS:
            raise IndexError(index)
        start = _FIRST + index * ROW_CELLS
        return Row(self._integers[start : start + ROW_CELLS], self._floats[start : start + ROW_CELLS])

    def table(self, index: int) -> memoryview:
        """Map the table of a row, for its holder to write. It is unmapped when it is no longer referenced."""
        offset, length = _place_of(index)
        return memoryview(mmap.mmap(self.descriptor, length, offset=offset))

    def in_hand(self, index: int, *, whole: bool = False) -> in_hand.Table:
        """Return the requests that the row's holder has in hand, or had when it died. Raises IndexError.

        Their targets have no queries unless `whole`.
        """
        with mapped(self.descriptor, *_place_of(index)) as table:
            return in_hand.read_table(table, whole=whole)

    def movable(self, index: int) -> list[int]:
        """Return the connections of the row's holder, which is stopped, that are between two requests.

        Raises IndexError.
        """
        with mapped(self.descriptor, *_place_of(index)) as table:
            return in_hand.movable_descriptors(table)

    def set_movable(self, index: int, descriptor: int, *, movable: bool) -> None:
        """Note whether a connection of the row's holder, which is stopped, is still to be given away. Raises OSError.

        Needs no further descriptor, as `movable`. The note outlives this master.
        """
        offset, _ = _place_of(index)
        os.pwrite(self.descriptor, bytes([movable]), offset + in_hand.MOVABLE + descriptor)

    def peers(self, own: int, alive_since: int) -> Peers | None:
        """Return the best of the other accepting workers, for a worker to decide whether to give way. None: no other.

        Ignores workers whose event loop has not turned since `alive_since` (monotonic nanoseconds). Cheap enough for
        every accept: it makes four strided copies, however large the rows are.
        """
        end = _FIRST + self._integers[_ROWS_IN_USE] * ROW_CELLS
        columns = (self._integers[_FIRST + cell : end : ROW_CELLS].tolist() for cell in Row.placement_cells())
        best = min(
            (
                (not threads_free, connections, index)
                for index, (accepting, connections, threads_free, heartbeat) in enumerate(zip(*columns, strict=True))
                if accepting and heartbeat >= alive_since and index != own
            ),
            default=None,
        )
        return None if best is None else Peers(best[2], best[1], not best[0])

    def close(self) -> None:
        """Close the descriptor. The memory is unmapped when the last row of it is no longer referenced."""
        self._integers.release()
        self._floats.release()
        originals.close(self.descriptor)

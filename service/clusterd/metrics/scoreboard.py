"""The memory that master and workers share: a row of numbers for each living worker.

The master reads it for metrics and hang detection, and so answers in full while every worker hangs. A row
is leased to one process and has one writer, that process's loop thread: a predecessor and a successor of the
same slot in one row would lose counts. Every cell is eight aligned bytes, which the processor reads and
writes whole, so there are no locks. Standard library only.
"""

import fcntl
import mmap
import os
from dataclasses import dataclass
from typing import Final, Self

from clusterd.metrics.in_hand import InHand
from clusterd.metrics.row import IN_HAND, IN_HAND_END, ROW_CELLS, Row

__all__ = ["LAYOUT_VERSION", "MAXIMUM_ROWS", "SILENT_NANOSECONDS", "Peers", "Row", "Scoreboard", "ScoreboardError"]

MAXIMUM_ROWS: Final = 4096
"""Rows there is room for, draining predecessors included. The memory is sparse: an unused row costs none."""

LAYOUT_VERSION: Final = 2
"""To be raised with every change of the layout; a worker says the one it knows in its `hello`."""

SILENT_NANOSECONDS: Final = 600_000_000
"""A worker whose loop has not turned for so long, more than two of its ticks, is no help."""

_MAGIC: Final = 0x636C7573746572  # "cluster"
_CELL: Final = 8
_HEADER_BYTES: Final = mmap.PAGESIZE
_HEADER: Final = (_MAGIC, LAYOUT_VERSION, ROW_CELLS, MAXIMUM_ROWS)
_ROWS_IN_USE: Final = len(_HEADER)
_WATCHED_UNTIL: Final = _ROWS_IN_USE + 1
_FIRST: Final = _HEADER_BYTES // _CELL
_SIZE: Final = _HEADER_BYTES + MAXIMUM_ROWS * ROW_CELLS * _CELL
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class ScoreboardError(Exception):
    """The memory is not a scoreboard of this layout, or has no free row."""


@dataclass(frozen=True, slots=True)
class Peers:
    """What the other workers that accept connections have to offer."""

    row: int
    """The one to be preferred: with a free thread if any has one, and then with the fewest connections."""
    least_connections: int
    """Its open connections."""
    has_free_thread: bool
    """Whether it could run a request at once."""


class Scoreboard:
    """Made by the master with `create`, found by a template with `attach`, inherited through its forks.

    Only the master leases and releases rows. `descriptor` is what another process attaches; it is closed on
    an exec unless it is passed on.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        memory = mmap.mmap(descriptor, _SIZE)
        self._integers = memoryview(memory).cast("q")
        self._floats = memoryview(memory).cast("d")
        self._leased: set[int] = set()

    @classmethod
    def create(cls) -> Self:
        """A new one. Its size is sealed, so that no process can make the others' access a SIGBUS."""
        descriptor = os.memfd_create("clusterd-scoreboard", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, _SIZE)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        scoreboard = cls(descriptor)
        for index, value in enumerate(_HEADER):
            scoreboard._integers[index] = value
        return scoreboard

    @classmethod
    def attach(cls, descriptor: int) -> Self:
        """The one behind an inherited descriptor, which it takes over.

        Raises ScoreboardError when it is none, or of another version; the descriptor is then still open.
        """
        size = os.fstat(descriptor).st_size
        if size != _SIZE:
            raise ScoreboardError(f"a scoreboard of {_SIZE} bytes was expected, found {size}")
        scoreboard = cls(descriptor)
        found = tuple(scoreboard._integers[: len(_HEADER)].tolist())
        if found != _HEADER:
            raise ScoreboardError(f"a scoreboard with the header {_HEADER} was expected, found {found}")
        return scoreboard

    def lease(self) -> int:
        """A row for a process about to be forked; the lowest free one, so that those in use stay together.

        Raises ScoreboardError when all are taken.
        """
        for index in range(MAXIMUM_ROWS):
            if index not in self._leased:
                self._leased.add(index)
                self._publish_rows_in_use()
                return index
        raise ScoreboardError(f"all {MAXIMUM_ROWS} rows are in use")

    def release(self, index: int) -> None:
        """Take a row back, emptied. The process must have been reaped, and its counts folded into the ledger.

        Raises KeyError when the row is not leased.
        """
        self._leased.remove(index)
        start = _FIRST + index * ROW_CELLS
        self._integers[start : start + ROW_CELLS] = memoryview(bytes(ROW_CELLS * _CELL)).cast("q")
        self._publish_rows_in_use()

    def _publish_rows_in_use(self) -> None:
        self._integers[_ROWS_IN_USE] = max(self._leased, default=-1) + 1

    def row(self, index: int) -> Row:
        """The row, to be written by its holder and read by anyone. Raises IndexError out of range."""
        if not 0 <= index < MAXIMUM_ROWS:
            raise IndexError(index)
        start = _FIRST + index * ROW_CELLS
        return Row(self._integers[start : start + ROW_CELLS], self._floats[start : start + ROW_CELLS])

    def in_hand(self, index: int) -> InHand:
        """The requests in the hands of the row's holder. Raises IndexError out of range."""
        if not 0 <= index < MAXIMUM_ROWS:
            raise IndexError(index)
        start = _FIRST + index * ROW_CELLS
        return InHand(self._integers[start + IN_HAND : start + IN_HAND_END])

    @property
    def watched_until(self) -> int:
        """Until when workers write down what requests they have in hand, in monotonic nanoseconds."""
        return self._integers[_WATCHED_UNTIL]

    @watched_until.setter
    def watched_until(self, value: int) -> None:
        self._integers[_WATCHED_UNTIL] = value

    def peers(self, own: int, alive_since: int) -> Peers | None:
        """How loaded the other accepting workers are, for one to decide whether to give way.

        Those whose loop has not turned since `alive_since` (monotonic nanoseconds) do not count. Cheap enough for
        every accept: four strided copies, whatever else the rows hold.
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
        """Close the descriptor and let the memory go, once the last row of it is forgotten too."""
        self._integers.release()
        self._floats.release()
        os.close(self.descriptor)

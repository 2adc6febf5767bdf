"""The layout of a region, and the reading of it.

A region has a header, a table of numbers, and records that say whose they are. The n-th record of a series belongs to
the n-th pair of numbers, the value and its timestamp. Records are only added: a reader parses each once. The header
says how many bytes of records there are, and is written after them, so a reader never sees half a record.

What the dead of a slot have left is written by the master, which may be killed at any instruction. Such a region
therefore has two sides, each with numbers and a part of the header. The master writes the side that does not count, and
then has it count by one write of eight bytes, so all of a death counts or nothing. The part of the header names the
lease that was added last: what is still in the region of that lease must not be added again. The regions of processes
use the first side only.

A reader trusts nothing: whatever code runs in a worker, it may have written anything into its region.
"""

import os
import struct
from array import array
from typing import Final
from zlib import crc32

from clusterd.metrics.regions.series import Catalog, Damaged, Series, Shape, decode
from clusterd.records import dataclass

MOST_SERIES: Final = 100_000
"""What there is room for. The setting `metrics.series` is less."""

HEADER_BYTES: Final = 4096
CELLS_AT: Final = HEADER_BYTES
PAIR_BYTES: Final = 16
KEYS_AT: Final = CELLS_AT + -(-MOST_SERIES * PAIR_BYTES // 4096) * 4096
REGION_BYTES: Final = 34 << 20
OTHER_CELLS_AT: Final = REGION_BYTES - (KEYS_AT - CELLS_AT)
"""Where the numbers of the second side are."""
MOST_KEY_BYTES: Final = OTHER_CELLS_AT - KEYS_AT
MOST_RECORD_BYTES: Final = 32 << 10
"""A series with longer labels is dropped."""
MOST_SHAPES: Final = 20_000
"""No application has as many metrics; to parse them takes the master about a sixth of a second."""
LEARNT_AT_ONCE: Final = 64 << 10
"""Bytes of keys that are parsed at once, which takes about a millisecond."""

MAGIC: Final = 0x636C7573746572_52  # "clusterR"
MAGIC_CELL: Final = 0
LAYOUT_CELL: Final = 1
KEY_BYTES_CELL: Final = 2
DROPPED_CELL: Final = 3
LEASE_CELL: Final = 4
"""The number of the lease whose values were added last; 0 in the region of a process."""
SIDE_CELL: Final = 5
_OTHER_PART: Final = 6
_HEADER: Final = struct.Struct("9Q")
LENGTH: Final = struct.Struct("I")

REGION_LAYOUT: Final = crc32(repr((2, MOST_SERIES, KEYS_AT, REGION_BYTES)).encode())


@dataclass(frozen=True, slots=True)
class Side:
    """Where one of the two sides of a region is."""

    part: int
    """The first of three cells of the header: the bytes of records, the series dropped, the lease added last."""
    cells_at: int


SIDES: Final = Side(KEY_BYTES_CELL, CELLS_AT), Side(_OTHER_PART, OTHER_CELLS_AT)


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a region, with the part of the side that counts."""

    magic: int
    layout: int
    key_bytes: int
    dropped: int
    lease: int
    side: int

    @classmethod
    def read(cls, descriptor: int, offset: int) -> "Header":
        """Read the header of the region at `offset`. What a file is too short for is 0. Raises OSError."""
        found = os.pread(descriptor, _HEADER.size, offset)
        cells = _HEADER.unpack(found.ljust(_HEADER.size, b"\0"))
        side = cells[SIDE_CELL] % 2
        key_bytes, dropped, lease = cells[SIDES[side].part : SIDES[side].part + 3]
        return cls(cells[MAGIC_CELL], cells[LAYOUT_CELL], key_bytes, dropped, lease, side)

    @property
    def is_valid(self) -> bool:
        """Whether the region may be read."""
        return self.magic == MAGIC and self.layout == REGION_LAYOUT and self.key_bytes <= MOST_KEY_BYTES


UNSET: Final = 0.0
"""The timestamp of a gauge that was made and never set. It is shown as 0 unless another process has set it."""
SET: Final = 1.0
"""The timestamp of a gauge that was set, where it does not matter when."""
HIDDEN: Final = -1.0
"""The timestamp of a gauge that is not to be shown: its labels were removed, or a function has its value."""


class Keys:
    """The series of a region, in the order of their numbers, as far as they were read."""

    __slots__ = ("length", "raw", "series", "shapes")

    def __init__(self, raw: bytes = b"", series: list[Series] | None = None, shapes: list[Shape] | None = None) -> None:
        self.raw = bytearray(raw)
        self.series = series or []
        self.shapes = shapes or []

    def copy(self) -> "Keys":
        """Return the same keys, to be continued by another region."""
        return Keys(bytes(self.raw), self.series.copy(), self.shapes.copy())

    def read(self, more: bytes, catalog: Catalog, most_series: int) -> None:
        """Add the whole records that `more` begins with. What comes before a damaged one counts. Raises Damaged.

        More series or shapes than any application may have are damage, too: they would take the reader's time.
        """
        start = 0
        try:
            while start + LENGTH.size <= len(more):
                length = LENGTH.unpack_from(more, start)[0]
                if length > MOST_RECORD_BYTES:
                    raise Damaged(f"a key of {length} bytes")
                end = start + LENGTH.size + length
                if end > len(more):
                    break
                found = decode(more[start + LENGTH.size : end], self.shapes, catalog)
                if len(self.shapes) > MOST_SHAPES:
                    raise Damaged(f"more than {MOST_SHAPES} shapes")
                if found is not None:
                    if len(self.series) >= most_series:
                        raise Damaged(f"more than {most_series} series")
                    self.series.append(found)
                start = end
        finally:
            self.raw += more[:start]


class Contents:
    """What a region holds at one moment."""

    __slots__ = ("cells", "dropped", "lease", "raw_keys", "series", "shapes", "side")

    def __init__(self, keys: Keys, cells: "array[float]", header: Header) -> None:
        # The lists grow when the region does; `cells` says how many there were.
        self.raw_keys = keys.raw
        self.series = keys.series
        self.shapes = keys.shapes
        self.cells = cells
        """Value and timestamp of each of `series`."""
        self.dropped = header.dropped
        """How many series had no room."""
        self.lease = header.lease
        """Of a slot's dead: the lease that was added last."""
        self.side = header.side


class RegionReader:
    """Reads one region again and again. `keys` are those it is known to begin with, perhaps."""

    def __init__(
        self,
        descriptor: int,
        offset: int,
        catalog: Catalog,
        keys: Keys | None = None,
        most_series: int = MOST_SERIES,
    ) -> None:
        self._most_series = most_series
        self._descriptor = descriptor
        self._offset = offset
        self._catalog = catalog
        self._expected = keys
        self.keys = Keys()
        self.damage = ""
        """What was found, if the region is damaged. What comes behind the damage is not read."""

    def read(self, most_new: int = MOST_KEY_BYTES) -> Contents | None:
        """Return what the region holds. None if it is not in use yet, or holds nothing that can be read.

        If more than `most_new` bytes of keys are new, what is behind them is taken for damaged.
        """
        header = Header.read(self._descriptor, self._offset)
        if not header.magic:
            return None
        key_bytes = header.key_bytes
        if not header.is_valid or key_bytes < len(self.keys.raw):
            self.damage = self.damage or "its header is damaged"
            return None
        known = len(self.keys.raw)
        while key_bytes > len(self.keys.raw) and not self.damage:
            if len(self.keys.raw) - known > most_new:
                self.damage = f"more than {most_new} bytes of keys that are new"
                break
            self._learn_some(key_bytes)
        count = len(self.keys.series)
        cells: array[float] = array("d")
        where = self._offset + SIDES[header.side].cells_at
        cells.frombytes(os.pread(self._descriptor, count * PAIR_BYTES, where))
        return Contents(self.keys, cells, header)

    def learn(self) -> bool:
        """Parse some of the keys that are new. Returns whether there are more: `read` would parse all of them."""
        header = Header.read(self._descriptor, self._offset)
        if not header.is_valid or self.damage:
            return False
        if header.key_bytes > len(self.keys.raw):
            self._learn_some(header.key_bytes)
        return header.key_bytes > len(self.keys.raw) and not self.damage

    def _learn_some(self, key_bytes: int) -> None:
        known = len(self.keys.raw)
        expected, self._expected = self._expected, None
        if not known and expected is not None and 0 < len(expected.raw) <= key_bytes:
            length = len(expected.raw)
            if self._read_keys(0, length) == expected.raw:
                self.keys = expected.copy()
                return
        try:
            more = self._read_keys(known, min(key_bytes - known, LEARNT_AT_ONCE))
            self.keys.read(more, self._catalog, self._most_series)
        except Damaged as error:
            self.damage = str(error)
        if len(self.keys.raw) == known:
            self.damage = self.damage or "a key is cut"

    def _read_keys(self, start: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, self._offset + KEYS_AT + start)

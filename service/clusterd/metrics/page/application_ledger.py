"""What the application's metrics of dead workers leave to their slots, in regions that only the master writes.

The master may be killed at any instruction: what it writes has no effect until one last write of eight bytes, and then
names the lease that was added. `Arena.go_on` and every reader add that lease to nothing any more.
"""

import os
import struct
from array import array
from math import isfinite
from typing import Final

from clusterd.metrics.regions.arena import TEMPLATE_SLOT, Arena, Lease
from clusterd.metrics.regions.merging import folded
from clusterd.metrics.regions.reading import ArenaReader
from clusterd.metrics.regions.region import (
    HIDDEN,
    KEYS_AT,
    LENGTH,
    MAGIC,
    MOST_KEY_BYTES,
    MOST_SERIES,
    REGION_LAYOUT,
    SIDE_CELL,
    SIDES,
    Contents,
    RegionReader,
)
from clusterd.metrics.regions.series import GAUGE, Series, Shape, encode_series, encode_shape
from clusterd.records import dataclass

_CELL: Final = struct.Struct("Q")
_KIND: Final = struct.Struct("2Q")
_PART: Final = struct.Struct("3Q")
_MOST_DROPPED: Final = 1 << 63
"""What a cell can hold. Each worker says itself how many series it has dropped."""


class _Kept:
    """The region of the dead of one slot, and a copy of what is in it."""

    def __init__(self, descriptor: int, offset: int) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self._numbers: dict[Series, int] = {}
        self._shapes: dict[Shape, int] = {}
        self._cells: array[float] = array("d")
        self._key_bytes = 0
        self._new_keys = bytearray()
        self._dropped = 0
        self._side = 0
        """The side of the region that counts."""
        self.damage = ""
        """What is damaged of what an earlier program of the master has written, until it was said."""

    def resume(self, contents: Contents) -> None:
        """Go on with what an earlier program of the master has written here."""
        self._numbers = {each: number for number, each in enumerate(contents.series)}
        self._shapes = {shape: number for number, shape in enumerate(contents.shapes)}
        self._cells = contents.cells
        self._key_bytes = len(contents.raw_keys)
        self._dropped = contents.dropped
        self._side = contents.side

    def fold(self, contents: Contents, lease: int) -> None:
        """Add what a dead process has left."""
        if not self._numbers:
            self._begin_with(contents)
        helps = {(shape.group, shape.sample): shape.help for shape in contents.shapes}
        cells = contents.cells
        for series, value, stamp in zip(contents.series, cells[::2], cells[1::2], strict=False):
            if series.is_live:
                continue
            number = self._numbers.get(series)
            if number is None:
                pair = folded(series, None, (value, stamp), lease)
                self._add(series, helps.get((series.group, series.sample), ""), pair)
            else:
                kept = self._cells[number * 2], self._cells[number * 2 + 1]
                self._cells[number * 2 : number * 2 + 2] = array("d", folded(series, kept, (value, stamp), lease))
        self._dropped = min(self._dropped + contents.dropped, _MOST_DROPPED)
        self._write(lease)

    def _begin_with(self, contents: Contents) -> None:
        """Take the keys of the first one as they are, which is quick. Its values are added as those of all others."""
        series = contents.series
        numbers = {each: number for number, each in enumerate(series)}
        if len(numbers) == len(series):
            self._numbers = numbers
            self._shapes = {shape: number for number, shape in enumerate(contents.shapes)}
            self._cells = array("d", (0.0, HIDDEN)) * len(series)
            self._new_keys += contents.raw_keys

    def fold_highest(self, contents: Contents) -> None:
        """Keep the highest counts, of the metrics that have counted anything. Gauges are the workers' own."""
        helps = {(shape.group, shape.sample): shape.help for shape in contents.shapes}
        pairs = list(zip(contents.series, contents.cells[::2], strict=False))
        counting = {series.group for series, value in pairs if value and series.group[1] != GAUGE}
        for series, value in pairs:
            if series.group not in counting or not isfinite(value):
                continue
            number = self._numbers.get(series)
            if number is None:
                self._add(series, helps.get((series.group, series.sample), ""), (value, 0.0))
            else:
                self._cells[number * 2] = max(self._cells[number * 2], value)
        self._write(0)

    def _add(self, series: Series, text: str, pair: tuple[float, float]) -> None:
        family, kind, mode = series.group
        shape = Shape(kind, family, series.sample, tuple(name for name, _ in series.labels), text, mode)
        shape_number = self._shapes.get(shape)
        records = []
        if shape_number is None:
            shape_number = len(self._shapes)
            records.append(encode_shape(shape))
        records.append(encode_series(shape_number, [value for _, value in series.labels]))
        framed = b"".join(LENGTH.pack(len(record)) + record for record in records)
        room = MOST_KEY_BYTES - self._key_bytes - len(self._new_keys)
        if len(self._numbers) >= MOST_SERIES or len(framed) > room:
            self._dropped = min(self._dropped + 1, _MOST_DROPPED)
            return
        self._shapes[shape] = shape_number
        self._new_keys += framed
        self._numbers[series] = len(self._numbers)
        self._cells.extend(pair)

    def _write(self, lease: int) -> None:
        """Write all of it beside what counts, and then have it count instead. Raises OSError."""
        key_bytes, side = self._key_bytes + len(self._new_keys), 1 - self._side
        self._put(KEYS_AT + self._key_bytes, self._new_keys)
        self._put(SIDES[side].cells_at, self._cells)
        self._put(SIDES[side].part * _CELL.size, _PART.pack(key_bytes, self._dropped, lease))
        self._put(0, _KIND.pack(MAGIC, REGION_LAYOUT))
        self._put(SIDE_CELL * _CELL.size, _CELL.pack(side))
        self._key_bytes, self._side = key_bytes, side
        self._new_keys.clear()

    def _put(self, where: int, what: "bytes | bytearray | array[float]") -> None:
        """Write all of `what`. pwrite(2) writes less where there is no memory for the rest, and fails the next time."""
        rest = memoryview(what).cast("B")
        while rest:
            written = os.pwrite(self._descriptor, rest, self._offset + where)
            where, rest = where + written, rest[written:]


@dataclass(frozen=True, slots=True)
class Folded:
    """What was found in the region of a dead worker."""

    lease: Lease
    damage: str
    """What is damaged; empty if nothing is. What was before the damage counts."""
    dropped: int
    """How many series had no room."""


class ApplicationLedger:
    """Keeps the counts of each slot's dead workers, and those of imports, so that no series of a counter decreases."""

    def __init__(self, arena: Arena, reader: ArenaReader) -> None:
        self._arena = arena
        self._reader = reader
        self._kept: dict[int, _Kept] = {}

    def fold(self, row: int) -> Folded:
        """Add what the holder of a row has left, and end its lease. Call it once, when the process is reaped.

        Raises OSError if there is no memory for it.
        """
        lease, contents, damage = self._reader.read_lease(row)
        with self._arena.changing():
            try:
                if contents is not None and contents.cells:
                    kept = self._of(lease.slot)
                    kept.fold(contents, lease.number)
                    damage, kept.damage = damage or kept.damage, ""
            finally:
                self._arena.release(row)
        return Folded(lease, damage, 0 if contents is None else contents.dropped)

    def fold_template(self, descriptor: int, most_series: int = MOST_SERIES) -> None:
        """Keep what an import has counted: the highest of all generations, because a reload imports again."""
        contents = RegionReader(descriptor, 0, self._reader.catalog, None, most_series).read()
        if contents is not None and contents.cells:
            with self._arena.changing():
                self._of(TEMPLATE_SLOT).fold_highest(contents)

    def _of(self, slot: int) -> _Kept:
        if slot not in self._kept:
            where = self._arena.descriptor, self._arena.offset_of_slot(slot)
            kept = self._kept[slot] = _Kept(*where)
            reader = RegionReader(*where, self._reader.catalog)
            if (contents := reader.read()) is not None:
                kept.resume(contents)
            if reader.damage:
                kept.damage = f"of what earlier workers of the slot have left, {reader.damage}"
            self._arena.keep(slot)
        return self._kept[slot]

"""The region that this process writes the application's values into."""

import os
import struct
from array import array
from collections.abc import Callable
from typing import Final, TypeVar

from clusterd.linux.memory import Mapping
from clusterd.metrics.regions.region import (
    CELLS_AT,
    DROPPED_CELL,
    HEADER_BYTES,
    KEY_BYTES_CELL,
    KEYS_AT,
    LAYOUT_CELL,
    LENGTH,
    MAGIC,
    MAGIC_CELL,
    MOST_KEY_BYTES,
    MOST_RECORD_BYTES,
    OTHER_CELLS_AT,
    PAIR_BYTES,
    REGION_BYTES,
    REGION_LAYOUT,
)
from clusterd.metrics.regions.series import GAUGE, Shape, encode_series, encode_shape
from clusterd.runtime import originals

_PAIR: Final = struct.Struct("2d")

_Key = TypeVar("_Key")
_Item = TypeVar("_Item")


_Made = tuple[int, int, int]
"""The bytes of keys, and the numbers of shapes and of places."""


class Place:
    """Where a value is: the index of its number, of which the next one is the timestamp, and the lock for both."""

    __slots__ = ("cells", "index", "lock")

    def __init__(self, cells: "memoryview[float] | array[float]", index: int) -> None:
        self.cells = cells
        self.index = index
        self.lock = originals.Lock()


class Memory:
    """One in a process. What is behind it changes at a fork; the values stay where they are, and need not be told.

    In a template it is a file of its own (`descriptor`), in a worker the region that the master has leased to it, and
    in a process that the application forks from a worker memory of that process alone.
    """

    def __init__(self, descriptor: int, offset: int, most_series: int) -> None:
        self.descriptor = descriptor
        self._most_series = most_series
        self._mapping = Mapping(descriptor, offset, REGION_BYTES)
        self._view = self._mapping.view
        self._header = self._view[:HEADER_BYTES].cast("Q")
        self._cells: memoryview[float] = self._view[CELLS_AT:KEYS_AT].cast("d")
        self._keys = self._view[KEYS_AT:OTHER_CELLS_AT]
        self._shapes: dict[Shape, int] = {}
        self._places: dict[tuple[int, tuple[str, ...]], Place] = {}
        self._gauges: list[int] = []
        """The indexes of the gauges."""
        self._made: _Made = 0, 0, 0
        self._whole = self._made
        """The same without what is about to be written. A fork may find more of one of the three than of the others."""
        self._unwritten = 0
        self._lock = originals.RLock()
        self._begin()

    @classmethod
    def of_its_own(cls, most_series: int) -> "Memory":
        """Return the memory of a template. Raises OSError."""
        descriptor = os.memfd_create("clusterd-template-values", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, REGION_BYTES)
        return cls(descriptor, 0, most_series)

    def place(self, shape: Shape, label_values: tuple[str, ...]) -> Place:
        """Return the place of a series. Where there is no room for another series, it is one that no reader sees.

        May be called while the same thread is in it: by a finalizer of garbage, or by a handler of a signal.
        """
        with self._lock:
            number = self._number_of(shape)
            found = None if number is None else self._place_of(number, label_values, is_gauge=shape.kind == GAUGE)
            if found is None:
                self._header[DROPPED_CELL] += 1
                return Place(array("d", (0.0, 0.0)), 0)
        return found

    @property
    def metrics(self) -> frozenset[str]:
        """The names of the metrics that this process has made, or its template."""
        return frozenset(shape.family for shape in tuple(self._shapes))

    def note_dropped(self, count: int) -> None:
        """Count series that had no room elsewhere."""
        with self._lock:
            self._header[DROPPED_CELL] += count

    def enter(self, descriptor: int, offset: int) -> None:
        """Write into the region of a worker from now on. To be called in a new process, which has no other threads.

        Gauges keep the values that the import has given them. All else begins at 0: what the import has counted is
        the template's.
        """
        self._forget_half()
        cells = bytearray(len(self._places) * PAIR_BYTES)
        for index in self._gauges:
            _PAIR.pack_into(cells, index * 8, self._cells[index], self._cells[index + 1])
        self._move(bytes(cells), lambda: self._mapping.move_to(descriptor, offset))

    def leave(self) -> None:
        """Write into memory of this process alone from now on. To be called in a new process as well."""
        self._forget_half()
        self._move(bytes(self._view[CELLS_AT : CELLS_AT + len(self._places) * PAIR_BYTES]), self._mapping.make_private)

    def _forget_half(self) -> None:
        """Forget what another thread had not completed when the process was forked."""
        self._made, self._unwritten = self._whole, 0
        _, shapes, places = self._whole
        while len(self._shapes) > shapes:
            self._shapes.popitem()
        while len(self._places) > places:
            self._places.popitem()

    def _move(self, cells: bytes, change: Callable[[], None]) -> None:
        keys = bytes(self._keys[: self._whole[0]])
        change()
        self._view[CELLS_AT : CELLS_AT + len(cells)] = cells
        self._keys[: len(keys)] = keys
        self._begin()
        # Another thread may have held any of them when the process was forked.
        self._lock = originals.RLock()
        for place in self._places.values():
            place.lock._at_fork_reinit()  # type: ignore[attr-defined]  # noqa: SLF001 - as `threading` does

    def _begin(self) -> None:
        self._header[LAYOUT_CELL] = REGION_LAYOUT
        self._header[KEY_BYTES_CELL] = self._whole[0]
        self._header[MAGIC_CELL] = MAGIC

    # ---- keys

    def _number_of(self, shape: Shape) -> int | None:
        while (known := self._shapes.get(shape)) is None:
            before = self._made
            start, number, places = before
            record = _framed(encode_shape(shape))
            if record is None or start + len(record) > MOST_KEY_BYTES:
                return None
            self._add(before, (start + len(record), number + 1, places), self._shapes, shape, number, record)
        return known

    def _place_of(self, shape_number: int, label_values: tuple[str, ...], *, is_gauge: bool) -> Place | None:
        key = shape_number, label_values
        while (known := self._places.get(key)) is None:
            before = self._made
            start, shapes, count = before
            record = _framed(encode_series(shape_number, label_values))
            if record is None or count >= self._most_series or start + len(record) > MOST_KEY_BYTES:
                return None
            place = Place(self._cells, count * 2)
            after = start + len(record), shapes, count + 1
            if self._add(before, after, self._places, key, place, record) and is_gauge:
                self._gauges.append(place.index)
        return known

    def _add(
        self, before: _Made, after: _Made, table: dict[_Key, _Item], key: _Key, item: _Item, record: bytes
    ) -> bool:
        """Add a record. Returns False if another one has been added since `before`, by the same thread.

        No other can be between the question and the entry in the table: nothing is called, and no object is made that
        would have garbage collected. Then another may be, but a place is reserved. A reader looks at whole records, as
        their length is told when all are written.
        """
        where = slice(before[0], after[0])
        if self._made is not before:
            return False
        table[key] = item
        self._made = after
        self._unwritten += 1
        self._keys[where] = record
        self._unwritten -= 1
        if not self._unwritten:
            self._whole = self._made
            self._header[KEY_BYTES_CELL] = self._whole[0]
        return True


def _framed(record: bytes) -> bytes | None:
    """Return the record with its length. None if it is too long."""
    return None if len(record) > MOST_RECORD_BYTES else LENGTH.pack(len(record)) + record

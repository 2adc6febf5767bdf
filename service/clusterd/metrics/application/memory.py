"""The region that this process writes the application's values into."""

import os
import struct
from array import array
from collections.abc import Callable
from typing import Final

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
    PAIR_BYTES,
    REGION_BYTES,
    REGION_LAYOUT,
)
from clusterd.metrics.regions.series import GAUGE, Shape, encode_series, encode_shape
from clusterd.runtime import originals

_PAIR: Final = struct.Struct("2d")


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
        self._keys = self._view[KEYS_AT:]
        self._key_bytes = 0
        self._shapes: dict[Shape, int] = {}
        self._places: dict[tuple[int, tuple[str, ...]], Place] = {}
        self._gauges: list[int] = []
        """The indexes of the gauges."""
        self._whole = 0, 0, 0
        """How many bytes of keys, shapes and places belong together. A fork may find more of one than of the others."""
        self._lock = originals.Lock()
        self._begin()

    @classmethod
    def of_its_own(cls, most_series: int) -> "Memory":
        """Return the memory of a template. Raises OSError."""
        descriptor = os.memfd_create("clusterd-template-values", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, REGION_BYTES)
        return cls(descriptor, 0, most_series)

    def place(self, shape: Shape, label_values: tuple[str, ...]) -> Place:
        """Return the place of a series. Where there is no room for another series, it is one that no reader sees."""
        with self._lock:
            number = self._shapes.get(shape)
            if number is None:
                number = self._add_shape(shape)
            found = None if number is None else self._places.get((number, label_values))
            if found is None:
                found = None if number is None else self._add_series(number, label_values)
                if found is None:
                    self._header[DROPPED_CELL] += 1
                    return Place(array("d", (0.0, 0.0)), 0)
                if shape.kind == GAUGE:
                    self._gauges.append(found.index)
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
        self._key_bytes, shapes, places = self._whole
        while len(self._shapes) > shapes:
            self._shapes.popitem()
        while len(self._places) > places:
            self._places.popitem()

    def _move(self, cells: bytes, change: Callable[[], None]) -> None:
        keys = bytes(self._keys[: self._key_bytes])
        change()
        self._view[CELLS_AT : CELLS_AT + len(cells)] = cells
        self._keys[: len(keys)] = keys
        self._begin()
        # Another thread may have held any of them when the process was forked.
        self._lock = originals.Lock()
        for place in self._places.values():
            place.lock._at_fork_reinit()  # type: ignore[attr-defined]  # noqa: SLF001 - as `threading` does

    def _begin(self) -> None:
        self._header[LAYOUT_CELL] = REGION_LAYOUT
        self._header[KEY_BYTES_CELL] = self._key_bytes
        self._header[MAGIC_CELL] = MAGIC

    # ---- keys

    def _add_shape(self, shape: Shape) -> int | None:
        if not self._append(encode_shape(shape)):
            return None
        number = self._shapes[shape] = len(self._shapes)
        self._complete()
        return number

    def _add_series(self, shape_number: int, label_values: tuple[str, ...]) -> Place | None:
        count = len(self._places)
        if count >= self._most_series or not self._append(encode_series(shape_number, label_values)):
            return None
        place = self._places[shape_number, label_values] = Place(self._cells, count * 2)
        self._complete()
        return place

    def _append(self, record: bytes) -> bool:
        """Write a record behind the others. Returns False if there is no room for it."""
        start = self._key_bytes
        end = start + LENGTH.size + len(record)
        if end > MOST_KEY_BYTES or len(record) > MOST_RECORD_BYTES:
            return False
        self._keys[start:end] = LENGTH.pack(len(record)) + record
        self._key_bytes = end
        return True

    def _complete(self) -> None:
        self._whole = self._key_bytes, len(self._shapes), len(self._places)
        self._header[KEY_BYTES_CELL] = self._key_bytes  # Only now, so that a reader finds whole records.

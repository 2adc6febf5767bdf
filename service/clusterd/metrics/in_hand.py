"""The requests that a process is calling its application for, in its row of the scoreboard.

They are still there when the process is gone, whatever ended it. Standard library only.
"""

import threading
from typing import Final

PLACES: Final = 5
"""Requests there is room for. When all places are taken, the one that was begun first is given up."""

PLACE_CELLS: Final = 25
_CELL: Final = 8
_TEXT_BYTES: Final = (PLACE_CELLS - 1) * _CELL
_CUT: Final = b"..."


class InHand:
    """Places for texts: each is a cell with the length, 0 where it is free, and then the text.

    `begin` and `end` are called by the process that holds the row, in any of its threads.
    """

    __slots__ = ("_begun", "_lock", "_number", "_text")

    def __init__(self, cells: "memoryview[int]") -> None:
        self._text = cells.cast("B")
        self._begun = [0] * PLACES
        """The number of the call in each place, 0 where there is none."""
        self._number = 0
        self._lock = threading.Lock()

    def begin(self, request: str) -> tuple[int, int]:
        """Write `request` down (ASCII, what is too long is cut); returns what `end` needs."""
        data = request.encode("ascii", "replace")
        if len(data) > _TEXT_BYTES:
            data = data[: _TEXT_BYTES - len(_CUT)] + _CUT
        with self._lock:
            self._number += 1
            place = self._begun.index(min(self._begun))
            self._begun[place] = self._number
            start = place * PLACE_CELLS * _CELL
            self._text[start] = 0  # until the text is whole
            self._text[start + _CELL : start + _CELL + len(data)] = data
            self._text[start] = len(data)
            return place, self._number

    def end(self, place: int, number: int) -> None:
        """That call is over. Its place may have been given to another one meanwhile."""
        with self._lock:
            if self._begun[place] == number:
                self._begun[place] = 0
                self._text[place * PLACE_CELLS * _CELL] = 0

    def requests(self) -> tuple[str, ...]:
        """What is written down. For any process."""
        found = []
        for start in range(0, PLACES * PLACE_CELLS * _CELL, PLACE_CELLS * _CELL):
            length = min(self._text[start], _TEXT_BYTES)
            if length:
                found.append(bytes(self._text[start + _CELL : start + _CELL + length]).decode("ascii", "replace"))
        return tuple(found)

"""The requests that a worker's application is handling, as text in the worker's row of the scoreboard.

The master can still read them after the worker has died, whatever killed it. Standard library only.
"""

from typing import Final

from clusterd.runtime import originals

PLACES: Final = 5
"""Room for this many requests. When all places are taken, the oldest request is overwritten."""

PLACE_CELLS: Final = 25
_CELL: Final = 8
_TEXT_BYTES: Final = (PLACE_CELLS - 1) * _CELL
_CUT: Final = b"..."


class InHand:
    """Places for texts. Each place is a cell with the length, 0 if it is free, and then the text.

    Only the process that holds the row calls `begin` and `end`, from any of its threads.
    """

    __slots__ = ("_begun", "_lock", "_number", "_text")

    def __init__(self, cells: "memoryview[int]") -> None:
        self._text = cells.cast("B")
        self._begun = [0] * PLACES
        """The number of the call in each place; 0 if the place is free."""
        self._number = 0
        self._lock = originals.Lock()

    def begin(self, request: str) -> tuple[int, int]:
        """Record `request`, as ASCII and truncated to fit. Returns the arguments for `end`."""
        data = request.encode("ascii", "replace")
        if len(data) > _TEXT_BYTES:
            data = data[: _TEXT_BYTES - len(_CUT)] + _CUT
        with self._lock:
            self._number += 1
            place = self._begun.index(min(self._begun))
            self._begun[place] = self._number
            start = place * PLACE_CELLS * _CELL
            self._text[start] = 0  # The place counts as free until the text is complete.
            self._text[start + _CELL : start + _CELL + len(data)] = data
            self._text[start] = len(data)
            return place, self._number

    def end(self, place: int, number: int) -> None:
        """Free the place of a call that has ended, unless a later call has overwritten it."""
        with self._lock:
            if self._begun[place] == number:
                self._begun[place] = 0
                self._text[place * PLACE_CELLS * _CELL] = 0

    def requests(self) -> tuple[str, ...]:
        """Return the recorded requests. Any process may call this."""
        found = []
        for start in range(0, PLACES * PLACE_CELLS * _CELL, PLACE_CELLS * _CELL):
            length = min(self._text[start], _TEXT_BYTES)
            if length:
                found.append(bytes(self._text[start + _CELL : start + _CELL + length]).decode("ascii", "replace"))
        return tuple(found)

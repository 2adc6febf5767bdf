"""Bounds what one client can cost without sending anything: control frames, empty fragments, chunks of a byte."""

from time import monotonic

BURST = 20_000
PER_SECOND = 1000.0

SMALL_BYTES = 16
"""A chunk, or a fragment of a message, below this size costs more than it carries."""


class Allowance:
    """Pieces that a connection may still send: BURST at once, and PER_SECOND in the long run."""

    __slots__ = ("_at", "_left")

    def __init__(self) -> None:
        self._left = float(BURST)
        self._at = monotonic()

    def spend(self, count: int) -> bool:
        """Account for `count` pieces. Returns whether they were allowed."""
        if count:
            now = monotonic()
            self._left = min(BURST, self._left + (now - self._at) * PER_SECOND) - count
            self._at = now
        return self._left >= 0

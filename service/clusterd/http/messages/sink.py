"""Where the body of a request goes as it is received."""

from typing import Protocol


class Sink(Protocol):
    """Takes a body piece by piece; the adapter makes one for each request that has a body."""

    @property
    def is_full(self) -> bool:
        """Whether more should not be read now."""

    def write(self, data: bytes) -> None:
        """Add what was received. Raises OSError when it can not be stored."""

    def end(self) -> None:
        """All of it is here."""

    def close(self) -> None:
        """Nobody reads it any more. Safe to call again."""

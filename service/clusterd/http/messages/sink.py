"""Where the bodies of requests go as they are received."""

from typing import Protocol


class Sink(Protocol):
    """Takes a body piece by piece; the adapter makes one for each request that has a body."""

    @property
    def is_full(self) -> bool:
        """Whether more should not be read now."""

    def write(self, data: bytes) -> None:
        """Add what was received. Raises OSError when it cannot be stored."""

    def end(self) -> None:
        """All of it is here."""

    def close(self) -> None:
        """Nobody reads it any more. Safe to call again."""


class Bodies(Protocol):
    """Makes the sinks."""

    @property
    def streams(self) -> bool:
        """Whether a call begins with the head of its request, or when the body is here as a whole."""

    def new_body(self, expected: int, /) -> Sink:
        """Where a body of `expected` bytes (0 when that is not known) goes."""

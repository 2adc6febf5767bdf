"""The interface that takes the bodies of requests as they are received."""

from typing import Protocol


class Sink(Protocol):
    """Takes a body piece by piece. The adapter makes one for each request that has a body."""

    @property
    def is_full(self) -> bool:
        """Whether the connection should stop reading for now."""

    def write(self, data: bytes) -> None:
        """Add received bytes. Raises OSError if they cannot be stored."""

    def end(self) -> None:
        """The body is complete."""

    def close(self) -> None:
        """Release the body: it has no reader any more. May be called more than once."""


class Bodies(Protocol):
    """Makes the sinks."""

    @property
    def streams(self) -> bool:
        """Whether a call begins as soon as the head has arrived. Otherwise it begins when the body is complete."""

    def new_body(self, expected: int, /) -> Sink:
        """Make the sink for a body of `expected` bytes; 0 if the size is not known."""

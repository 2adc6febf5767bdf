"""What a connection carries once it has left HTTP (RFC 9110 section 7.8), as the connection and the engine see it."""

from enum import Enum, auto
from typing import Protocol


class Departure(Enum):
    """Why the server leaves its clients."""

    RESTART = auto()
    """A successor is there for them already."""
    STOP = auto()
    """Nobody is."""


class Tunnel(Protocol):
    """Another protocol on a connection. All methods are called on the loop's thread.

    It speaks with `Connection.write`, and leaves with `Connection.leave`; what its connection waits for is its own
    affair (`Deadline.within`), except for a client that does not read, which the connection ends as it does under HTTP.
    """

    def receive(self, data: bytes, /) -> None:
        """Take what was read; at first what came behind the request, and that may be nothing."""

    def expire(self) -> None:
        """What was to come by the deadline has not."""

    def depart(self, why: Departure, /) -> None:
        """Say farewell: a tunnel cannot move to another process."""

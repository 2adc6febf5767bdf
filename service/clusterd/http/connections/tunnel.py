"""The interface of a protocol that a connection carries after an upgrade from HTTP (RFC 9110 section 7.8)."""

from enum import Enum, auto
from typing import Protocol


class Departure(Enum):
    """Why this worker leaves its clients."""

    RESTART = auto()
    """It is replaced. Its successor already serves."""
    STOP = auto()
    """It is stopped. It has no successor."""


class Tunnel(Protocol):
    """Another protocol on a connection. All methods are called on the loop's thread.

    It sends with `Connection.write` and closes with `Connection.leave`. It sets its own deadlines (`Deadline.within`).
    As under HTTP, the connection itself drops a client that does not read.
    """

    def receive(self, data: bytes, /) -> None:
        """Take bytes that were read. The first call has the bytes after the request, which may be none."""

    def expire(self) -> None:
        """The deadline has passed."""

    def depart(self, why: Departure, /) -> None:
        """Tell the client that this worker leaves it. A tunnel cannot be handed over."""

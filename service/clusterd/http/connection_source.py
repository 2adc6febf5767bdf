"""The interface by which a thread that has the event loop accepts connections while the loop stands still."""

from enum import Enum, auto
from typing import Protocol


class Arrival(Enum):
    """What has come for a loop that stands still."""

    NOTHING = auto()
    CONNECTIONS = auto()
    OTHER = auto()
    """Something that the loop has to handle."""
    BOTH = auto()


class ConnectionSource(Protocol):
    """Where connections come from. Its methods are called in the thread that has the loop."""

    def has_loop_work(self) -> bool:
        """Whether something waits that only the loop can do."""

    def accept_one(self) -> bool:
        """Accept a connection. Returns False if there is none, or if another worker should accept."""

    def wait(self, seconds: float) -> Arrival:
        """Wait for connections and for what the loop has to handle."""

    def accept(self) -> None:
        """Accept all connections that wait. Called in the loop."""

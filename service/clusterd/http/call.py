"""What a connection and the adapter that answers its request expect of each other."""

from enum import Enum
from typing import Protocol


class Phase(Enum):
    """How far the answer to a request is, for the log of requests in flight."""

    RECEIVING = "receiving"
    QUEUED = "queued"
    RUNNING = "running"
    SENDING = "sending"


class Call(Protocol):
    """A request being answered. All methods are called on the loop's thread.

    The adapter answers with `Connection.send`, and then `Connection.finish` or `Connection.break_off`, and
    looks at `Connection.call` first when it comes from elsewhere: the client may have gone.
    """

    @property
    def phase(self) -> Phase:
        """How far the answer is."""

    @property
    def started(self) -> bool:
        """Whether a part of the response may have been sent."""

    def resume(self) -> None:
        """The client has read everything: go on sending."""

    def disconnected(self) -> None:
        """The client has gone, or the server has given up: stop, and send nothing more."""

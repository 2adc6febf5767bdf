"""What a connection and the adapter that answers its request expect of each other."""

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from clusterd.http.messages.sink import Bodies

if TYPE_CHECKING:
    from clusterd.http.connections.connection import Connection


class StartupFailed(Exception):
    """The application says that it cannot start; the text is its message."""


class CallPhase(Enum):
    """How far the answer to a request is, for the log of requests in flight."""

    RECEIVING = "receiving"
    QUEUED = "queued"
    RUNNING = "running"
    SENDING = "sending"
    WEBSOCKET = "websocket"
    """It was accepted, and is open."""


class Adapter(Bodies, Protocol):
    """Has the application answer requests."""

    def answer(self, connection: "Connection") -> None:
        """Have the application answer the request of `connection`. Raises Refusal for what it cannot be asked."""

    def use(self, application: Callable[..., Any], /) -> None:
        """Call this from now on: the application, or something around it."""

    def tick(self, now: float) -> None:
        """Enforce what has to be over by now (`time.monotonic()`)."""

    @property
    def running(self) -> int:
        """How many calls of the application are under way, those that go on after their response included."""

    async def startup(self) -> None:
        """Have the application get ready. Raises StartupFailed."""

    async def shutdown(self) -> None:
        """Have the application clean up."""


class Call(Protocol):
    """A request being answered. All methods are called on the loop's thread.

    The adapter answers with `Connection.send`, and then `Connection.finish` or `Connection.break_off`, and
    looks at `Connection.call` first when it comes from elsewhere: the client may have gone.
    """

    @property
    def phase(self) -> CallPhase:
        """How far the answer is."""

    @property
    def started(self) -> bool:
        """Whether a part of the response may have been sent."""

    def resume(self) -> None:
        """The client has read everything: go on sending."""

    def client_closed(self) -> None:
        """The client sends nothing more. It may have gone, or wait for its answer: nobody can tell."""

    def disconnected(self) -> None:
        """The client has gone, or the server has given up: stop, and send nothing more."""

    def cancel(self) -> None:
        """Its time is over: end it, where that is possible."""

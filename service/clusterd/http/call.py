"""The interfaces between a connection and the adapter that answers its requests."""

import asyncio
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from clusterd.http.messages.sink import Bodies

if TYPE_CHECKING:
    from clusterd.http.connections.connection import Connection


class StartupFailed(Exception):
    """The application reports that it cannot start. The text is its message."""


class CallPhase(Enum):
    """The phase of a request in flight, for logs and stacks."""

    RECEIVING = "receiving"
    QUEUED = "queued"
    RUNNING = "running"
    SENDING = "sending"
    WEBSOCKET = "websocket"
    """The application has accepted the WebSocket, and it is open."""


class Adapter(Bodies, Protocol):
    """Calls the application to answer requests."""

    def answer(self, connection: "Connection") -> None:
        """Have the application answer the request of `connection`. Raises Refusal if it cannot be called for it."""

    def tick(self, now: float) -> None:
        """Enforce the adapter's timeouts. `now` is time.monotonic()."""

    @property
    def running(self) -> int:
        """Number of calls of the application under way, including those that go on after their response."""

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The tasks of these calls, where they are tasks."""

    async def startup(self) -> None:
        """Run the application's startup. Raises StartupFailed."""

    async def shutdown(self) -> None:
        """Run the application's shutdown."""


class Call(Protocol):
    """A request that is being answered. All methods are called on the loop's thread.

    The adapter answers with `Connection.send`, followed by `Connection.finish` or `Connection.break_off`. A callback
    that comes from another thread or task must first check `Connection.call`: the client may have gone.
    """

    @property
    def phase(self) -> CallPhase:
        """The phase of the request."""

    @property
    def is_running(self) -> bool:
        """Whether the application's call goes on, also after the connection has given the request up."""

    @property
    def runs_in(self) -> object:
        """What runs it: the identifier of a thread, a greenlet or a task. None if nothing does, or the event loop."""

    @property
    def started(self) -> bool:
        """Whether a part of the response may have been sent."""

    def resume(self) -> None:
        """The client has read everything. Continue to send."""

    def client_closed(self) -> None:
        """The client has closed its sending side. It may have gone or may wait for the response; this is unknown."""

    def disconnected(self) -> None:
        """The client has gone, or the server has given up the request. Stop, and send nothing more."""

    def cancel(self) -> None:
        """timeouts.request has passed. End the call if that is possible."""

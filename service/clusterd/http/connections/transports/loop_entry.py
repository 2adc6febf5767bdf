"""Adds connected sockets to the event loop."""

import asyncio
import socket
from collections.abc import Callable
from typing import Final, Protocol, cast

from clusterd.http.connections.transports.transport import LoopTransport


class Newcomer(Protocol):
    """The object that gets a new transport. It is a Receiver, or it gives the transport another Receiver."""

    def connection_made(self, transport: LoopTransport, /) -> None:
        """Take the new transport."""


class Waiting(Protocol):
    """An object that enters the loop later, if it is not over until then."""

    def enter(self) -> None:
        """Enter now. Does nothing if it has entered already, or is over."""


SOON_SECONDS: Final = 0.01
"""For so long, or twice as long, something may wait outside of the loop for its end."""


class LoopEntry:
    """Has the loop make transports for connected sockets. Keeps references to the tasks, because the loop does not."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Task[object]] = set()
        self._waiting: list[Waiting] = []
        self._waiting_longer: list[Waiting] = []
        """Those that were there already when the timer was set."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_entering(self) -> bool:
        """Whether a socket is on its way into the loop, which takes a few turns of it."""
        return bool(self._tasks)

    def enter_later(self, waiting: Waiting) -> None:
        """Have it enter in SOON_SECONDS, or twice that: one timer serves all."""
        self._waiting.append(waiting)
        if self._timer is None:
            self._timer = self._loop.call_later(SOON_SECONDS, self._look)

    def _look(self) -> None:
        late, self._waiting_longer, self._waiting = self._waiting_longer, self._waiting, []
        self._timer = self._loop.call_later(SOON_SECONDS, self._look) if self._waiting_longer else None
        for waiting in late:
            waiting.enter()

    def enter(self, sock: socket.socket, newcomer: Newcomer, failed: Callable[[], object]) -> None:
        """Give `sock` to the loop, with `newcomer` as its protocol. Calls `failed` if that is not possible.

        A failure is not logged: a client may close the connection before it is set up.
        """

        def done(task: asyncio.Task[object]) -> None:
            self._tasks.discard(task)
            if task.cancelled() or task.exception() is not None:
                failed()

        protocol = cast(asyncio.Protocol, newcomer)
        # Not by the loop's task factory, which is for the tasks of applications.
        entering = self._loop.connect_accepted_socket(lambda: protocol, sock)
        task: asyncio.Task[object] = asyncio.Task(entering, loop=self._loop)
        self._tasks.add(task)
        task.add_done_callback(done)

"""Adds connected sockets to the event loop."""

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol, cast

from clusterd.http.connections.transports.transport import LoopTransport


class Newcomer(Protocol):
    """The object that gets a new transport. It is a Receiver, or it gives the transport another Receiver."""

    def connection_made(self, transport: LoopTransport, /) -> None:
        """Take the new transport."""


class LoopEntry:
    """Has the loop make transports for connected sockets. Keeps references to the tasks, because the loop does not."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Task[object]] = set()

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

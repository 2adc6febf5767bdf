"""The way of a connected socket into the event loop."""

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol, cast

from clusterd.http.connections.transport import LoopTransport


class Newcomer(Protocol):
    """Who awaits a transport: a Receiver, unless it has the transport given to one."""

    def connection_made(self, transport: LoopTransport, /) -> None:
        """Here it is."""


class LoopEntry:
    """Has the loop make transports of connected sockets, and keeps the tasks that do, as the loop does not."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Task[object]] = set()

    def enter(self, sock: socket.socket, newcomer: Newcomer, failed: Callable[[], object]) -> None:
        """Give `sock` to the loop, with `newcomer` as its protocol; `failed` is called where that is not possible.

        A client may be gone before its connection is set up: nothing to say about it.
        """

        def done(task: asyncio.Task[object]) -> None:
            self._tasks.discard(task)
            if task.cancelled() or task.exception() is not None:
                failed()

        protocol = cast(asyncio.Protocol, newcomer)
        task: asyncio.Task[object] = self._loop.create_task(self._loop.connect_accepted_socket(lambda: protocol, sock))
        self._tasks.add(task)
        task.add_done_callback(done)

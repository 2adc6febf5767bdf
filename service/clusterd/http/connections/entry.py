"""The way of a connected socket into the event loop."""

import asyncio
import socket
from collections.abc import Callable


class Entry:
    """Has the loop make transports of connected sockets, and keeps the tasks that do, as the loop does not."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Task[object]] = set()

    def enter(self, sock: socket.socket, protocol: asyncio.Protocol, failed: Callable[[], object]) -> None:
        """Give `sock` to the loop, with this protocol; `failed` is called where that is not possible.

        A client may be gone before its connection is set up: nothing to say about it.
        """

        def done(task: asyncio.Task[object]) -> None:
            self._tasks.discard(task)
            if task.cancelled() or task.exception() is not None:
                failed()

        task: asyncio.Task[object] = self._loop.create_task(self._loop.connect_accepted_socket(lambda: protocol, sock))
        self._tasks.add(task)
        task.add_done_callback(done)

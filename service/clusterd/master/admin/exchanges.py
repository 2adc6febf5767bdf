"""Small HTTP exchanges on an event loop with more important work: one request a connection, short limits."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

from clusterd.log import Logger
from clusterd.master.admin.accepting import Accepting

MAXIMUM_CONNECTIONS = 32
"""Beyond this number the oldest connection is closed. A probe is quick, so the oldest connection is not one."""

EXCHANGE_SECONDS = 5.0
"""The time from the accept to the last byte of the answer. A slower client is disconnected."""

HEAD_BYTES = 8 * 1024
"""The longest request head that is accepted."""


class Exchanges:
    """Accepts connections and runs `converse` on each. The sockets already listen. The caller closes them."""

    def __init__(
        self,
        what: str,
        listeners: Sequence[socket.socket],
        converse: Callable[[socket.socket], Awaitable[None]],
        log: Logger,
    ) -> None:
        self._converse = converse
        self._accepting = Accepting(what, listeners, self._accepted, log)
        # In the order of arrival. The tasks are kept here because the loop keeps only weak references to them.
        self._under_way: dict[asyncio.Task[None], None] = {}

    @property
    def is_idle(self) -> bool:
        """Whether no exchange is under way."""
        return not self._under_way

    def start(self) -> None:
        """Begin to accept, on the running loop."""
        self._accepting.start()

    async def close(self) -> None:
        """Stop accepting and close every open connection."""
        self._accepting.stop()
        exchanges = tuple(self._under_way)
        for exchange in exchanges:
            exchange.cancel()
        await asyncio.gather(*exchanges, return_exceptions=True)

    def _accepted(self, connection: socket.socket) -> None:
        if len(self._under_way) >= MAXIMUM_CONNECTIONS:
            oldest = next(iter(self._under_way))
            oldest.cancel()
            self._under_way.pop(oldest)
        exchange = asyncio.get_running_loop().create_task(self._exchange(connection))
        self._under_way[exchange] = None
        exchange.add_done_callback(lambda done: self._under_way.pop(done, None))

    async def _exchange(self, connection: socket.socket) -> None:
        with connection:
            try:
                async with asyncio.timeout(EXCHANGE_SECONDS):
                    await self._converse(connection)
            except (OSError, TimeoutError):
                # The client has gone or was too slow. Closing its connection is enough.
                return


async def receive_head(connection: socket.socket) -> bytes | None:
    """Receive until the end of the head, or until there are more than HEAD_BYTES bytes.

    Returns the bytes received; None if the client closes the connection before.
    """
    loop = asyncio.get_running_loop()
    head = b""
    while b"\r\n\r\n" not in head and len(head) <= HEAD_BYTES:
        data = await loop.sock_recv(connection, HEAD_BYTES)
        if not data:
            return None
        head += data
    return head


async def send_and_end(connection: socket.socket, response: bytes) -> None:
    """Send the whole response and wait for the client to close."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, response)
    connection.shutdown(socket.SHUT_WR)
    # Closing with unread bytes would reset the connection, and the client might lose the answer.
    while await loop.sock_recv(connection, HEAD_BYTES):
        pass

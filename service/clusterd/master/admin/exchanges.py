"""Small HTTP exchanges on an event loop that has more important work: one request a connection, short limits."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

from clusterd.log import Logger
from clusterd.master.admin.accepting import Accepting

MAXIMUM_CONNECTIONS = 32
"""Beyond it the oldest connection is closed: probes are quick, who stays is not one."""

EXCHANGE_SECONDS = 5.0
"""From the accept to the last byte of the answer, so also the most a slow client gets."""

HEAD_BYTES = 8 * 1024
"""The longest head of a request."""


class Exchanges:
    """Accepts connections and holds one conversation on each. The sockets listen already and stay the caller's."""

    def __init__(
        self,
        what: str,
        listeners: Sequence[socket.socket],
        converse: Callable[[socket.socket], Awaitable[None]],
        log: Logger,
    ) -> None:
        self._converse = converse
        self._accepting = Accepting(what, listeners, self._accepted, log)
        # In the order of arrival; the loop itself keeps only weak references to tasks.
        self._under_way: dict[asyncio.Task[None], None] = {}

    def start(self) -> None:
        """Begin to accept, on the running loop."""
        self._accepting.start()

    async def close(self) -> None:
        """Stop accepting and drop what is under way."""
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
                # The client has gone, or was too slow; its connection is closed and that is all.
                return


async def receive_head(connection: socket.socket) -> bytes | None:
    """What came up to the end of the head, or more than HEAD_BYTES of it; None when the client closed before."""
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
    # To close with unread bytes would reset the connection, and the client might lose the answer.
    while await loop.sock_recv(connection, HEAD_BYTES):
        pass

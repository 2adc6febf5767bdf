"""The body of a request for an application that takes it piece by piece."""

import asyncio
from collections.abc import Callable

HELD_BYTES = 64 * 1024
"""While this many bytes wait for the application, the connection does not read more from the client."""


class Inflow:
    """Keeps received bytes until the application takes them. Several tasks may wait: each looks for what is there."""

    __slots__ = ("_pieces", "_waiter", "held", "is_closed", "is_complete", "on_room")

    def __init__(self) -> None:
        self.on_room: Callable[[], None] | None = None
        """Called when the application has taken the bytes, and more may be read."""
        self._pieces: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self.held = 0
        """Bytes that the application has not taken."""
        self.is_complete = False
        self.is_closed = False

    @property
    def is_full(self) -> bool:
        """Whether the connection should stop reading for now."""
        return self.held >= HELD_BYTES

    def write(self, data: bytes) -> None:
        """Add received bytes. Drops them if the body is closed."""
        if data and not self.is_closed:
            self._pieces.append(data)
            self.held += len(data)
            self._wake()

    def end(self) -> None:
        """The body is complete."""
        self.is_complete = True
        self._wake()

    def close(self) -> None:
        """Drop the rest of the body. May be called more than once."""
        self.is_closed = True
        self._pieces.clear()
        self.held = 0
        self._wake()

    async def take(self) -> bytes:
        """Wait for bytes, and return all that are here. Empty at the end, and after `close`."""
        while not self._pieces and not self.is_complete and not self.is_closed:
            if self._waiter is None:
                self._waiter = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._waiter)
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self.held = 0
        if data and self.on_room is not None:
            self.on_room()
        return data

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

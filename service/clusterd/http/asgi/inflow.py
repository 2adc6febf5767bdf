"""The body of a request on its way to an application that takes it piece by piece."""

import asyncio
from collections.abc import Callable

HELD_BYTES = 64 * 1024
"""More is not read from the client before the application has taken some."""


class Inflow:
    """Holds what was received until it is asked for; one reader at a time."""

    __slots__ = ("_pieces", "_waiter", "held", "is_closed", "is_complete", "on_room", "size")

    def __init__(self) -> None:
        self.on_room: Callable[[], None] | None = None
        """Called when what was held has been taken, and more may be read."""
        self._pieces: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self.held = 0
        """Bytes that wait to be taken."""
        self.size = 0
        """Bytes received altogether."""
        self.is_complete = False
        self.is_closed = False

    @property
    def is_full(self) -> bool:
        """Whether more should not be read now."""
        return self.held >= HELD_BYTES

    def write(self, data: bytes) -> None:
        """Add what was received; dropped when nobody takes it any more."""
        if data and not self.is_closed:
            self._pieces.append(data)
            self.held += len(data)
            self.size += len(data)
            self._wake()

    def end(self) -> None:
        """All of it is here."""
        self.is_complete = True
        self._wake()

    def close(self) -> None:
        """Nobody takes the rest. Safe to call again."""
        self.is_closed = True
        self._pieces.clear()
        self.held = 0
        self._wake()

    async def take(self) -> bytes:
        """Everything that is held, once there is something; empty at the end, and when it was closed."""
        while not self._pieces and not self.is_complete and not self.is_closed:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
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

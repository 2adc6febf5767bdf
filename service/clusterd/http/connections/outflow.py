"""The sending side of a connection: what the kernel has not taken yet, and whether the client goes on reading."""

import asyncio


class Outflow:
    """Watches what waits to be sent."""

    __slots__ = ("_transport", "_waiting", "is_clear")

    def __init__(self, transport: asyncio.Transport) -> None:
        # With a limit of 0, uvloop writes at once and pauses the connection only for what the kernel did not
        # take: clear means an empty buffer, which is what back pressure and a hand-over need to know.
        transport.set_write_buffer_limits(high=0)
        self._transport = transport
        self._waiting = 0
        self.is_clear = True
        """Whether all that was written has been taken by the kernel."""

    def move(self, transport: asyncio.Transport) -> None:
        """Another transport sends from now on."""
        transport.set_write_buffer_limits(high=0)
        self._transport = transport

    def stop(self) -> None:
        """The kernel did not take everything."""
        self.is_clear = False
        self._waiting = self._transport.get_write_buffer_size()

    def clear(self) -> None:
        """The kernel has taken the rest."""
        self.is_clear = True

    def has_moved(self) -> bool:
        """Whether the client has read anything since this was last asked."""
        before, self._waiting = self._waiting, self._transport.get_write_buffer_size()
        return self._waiting < before

"""The interfaces between a connection and its transport.

They mirror asyncio's transports and protocols, but are Protocols and not base classes. mypyc compiles the classes of
the engine to C structures, which is impossible for a class that inherits from the standard library's. An event loop
does not check the base class of a protocol.
"""

import socket
from typing import Any, Protocol


class Transport(Protocol):
    """Like asyncio.Transport. The transports of an event loop implement it."""

    def write(self, data: bytes, /) -> None:
        """Send `data`: what the kernel takes now, and the rest later."""

    def write_eof(self) -> None:
        """Close our side when everything is out."""

    def close(self) -> None:
        """Close both sides when everything is out."""

    def abort(self) -> None:
        """Drop the connection."""

    def pause_reading(self) -> None:
        """Stop reading. The other side's bytes wait in the kernel."""

    def resume_reading(self) -> None:
        """Read again."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the buffer sizes at which the receiver is paused and resumed."""

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that the kernel has not taken."""

    def get_extra_info(self, name: str, default: Any = None, /) -> Any:
        """Return the socket, or one of its addresses."""


class LoopTransport(Transport, Protocol):
    """A transport of an event loop. Its receiver can be replaced."""

    def set_protocol(self, protocol: Any, /) -> None:
        """Replace the receiver."""


class Receiver(Protocol):
    """Like asyncio.Protocol, without `connection_made`."""

    def data_received(self, data: bytes, /) -> None:
        """Take bytes that were read."""

    def eof_received(self) -> bool | None:
        """The other side has closed its sending side. Returns whether the transport stays open."""

    def connection_lost(self, error: Exception | None, /) -> None:
        """The transport is closed."""

    def pause_writing(self) -> None:
        """The kernel did not take everything."""

    def resume_writing(self) -> None:
        """The kernel has taken everything."""


def shut_down(sock: socket.socket) -> None:
    """Have the client read the end, even if a process that the application has forked holds the socket open."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # The client has gone.

"""What a connection and the transport of its bytes expect of each other.

asyncio's transports and protocols, as Protocols rather than base classes: the classes of the engine are compiled by
mypyc to C structures, which those that inherit from the standard library's cannot be. No event loop looks at the base
class of what it is given.
"""

from typing import Any, Protocol


class Transport(Protocol):
    """As of asyncio.Transport; an event loop's is one."""

    def write(self, data: bytes, /) -> None:
        """Send `data`: now what the kernel takes, and the rest when it can."""

    def write_eof(self) -> None:
        """Close our side when everything is out."""

    def close(self) -> None:
        """Close both sides when everything is out."""

    def abort(self) -> None:
        """Drop the connection."""

    def pause_reading(self) -> None:
        """Leave what comes in the kernel."""

    def resume_reading(self) -> None:
        """Take what waits."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """When the receiver is told to wait with writing."""

    def get_write_buffer_size(self) -> int:
        """Bytes that the kernel has not taken."""

    def get_extra_info(self, name: str, default: Any = None, /) -> Any:
        """The socket, and its addresses."""


class LoopTransport(Transport, Protocol):
    """An event loop's own, which can be given another receiver."""

    def set_protocol(self, protocol: Any, /) -> None:
        """Have another receiver."""


class Receiver(Protocol):
    """As of asyncio.Protocol, but for `connection_made`."""

    def data_received(self, data: bytes, /) -> None:
        """Take what was read."""

    def eof_received(self) -> bool | None:
        """The other side sends nothing more. Returns whether the transport stays open."""

    def connection_lost(self, error: Exception | None, /) -> None:
        """The transport is closed."""

    def pause_writing(self) -> None:
        """The kernel did not take everything."""

    def resume_writing(self) -> None:
        """It has."""

"""The byte stream of a connection, with back pressure in both directions. Knows nothing of HTTP."""

import sys
from fcntl import ioctl
from termios import FIONREAD
from typing import cast

from clusterd.http.connections.transports.outflow import Outflow
from clusterd.http.connections.transports.transport import Transport


class Stream:
    """The part of a connection that is independent of its protocol."""

    __slots__ = ("_outflow", "_reading", "_transport", "half_closed", "is_dropped")

    def __init__(self) -> None:
        self._transport: Transport
        self._outflow: Outflow
        self._reading = True
        self.half_closed = False
        """Whether the client has closed its sending side."""
        self.is_dropped = False
        """Whether `abort` was called: the client has not left by itself."""

    def _attach(self, transport: Transport) -> None:
        self._transport = transport
        self._outflow = Outflow(transport)

    def transport_changed(self, transport: Transport) -> None:
        """Continue with another transport of the same socket."""
        self._transport = transport
        self._outflow.move(transport)

    @property
    def writable(self) -> bool:
        """Whether the kernel has taken everything that was sent."""
        return self._outflow.is_clear

    @property
    def unsent(self) -> int:
        """Bytes that were written and that the kernel has not taken."""
        return self._transport.get_write_buffer_size()

    def has_reader_moved(self) -> bool:
        """Whether the client has read anything since the last call."""
        return self._outflow.has_moved()

    def stop_reading(self) -> None:
        """Stop reading. The client's bytes wait in the kernel, and then at the client."""
        if self._reading:
            self._reading = False
            self._transport.pause_reading()

    def read_on(self) -> None:
        """Read again."""
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()

    def abort(self) -> None:
        """Drop the connection, also with a request in flight."""
        self.is_dropped = True
        self._transport.abort()

    def _unread_in_kernel(self) -> int:
        """Bytes that the client has sent and this process has not read (FIONREAD, tcp(7)); 0 for a closed socket."""
        try:
            count = ioctl(self.fileno(), FIONREAD, bytes(4))
        except (OSError, ValueError):
            return 0
        return int.from_bytes(count, sys.byteorder)

    def fileno(self) -> int:
        """Return the descriptor of the socket, to send it to another process."""
        return cast(int, self._transport.get_extra_info("socket").fileno())

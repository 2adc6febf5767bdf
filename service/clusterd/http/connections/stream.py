"""The bytes of a connection: read and written with back pressure both ways, and ended. Nothing here knows HTTP."""

import sys
from fcntl import ioctl
from termios import FIONREAD
from typing import cast

from clusterd.http.connections.outflow import Outflow
from clusterd.http.connections.transport import Transport


class Stream:
    """What a connection is, whatever is spoken on it."""

    __slots__ = ("_half_closed", "_outflow", "_reading", "_transport")

    def __init__(self) -> None:
        self._transport: Transport
        self._outflow: Outflow
        self._reading = True
        self._half_closed = False
        """The client has closed its sending side."""

    def _attach(self, transport: Transport) -> None:
        self._transport = transport
        self._outflow = Outflow(transport)

    def transport_changed(self, transport: Transport) -> None:
        """Go on with another transport of the same socket."""
        self._transport = transport
        self._outflow.move(transport)

    @property
    def writable(self) -> bool:
        """Whether all that was sent has been taken by the kernel."""
        return self._outflow.is_clear

    def has_reader_moved(self) -> bool:
        """Whether the client has read anything since this was last asked."""
        return self._outflow.has_moved()

    def stop_reading(self) -> None:
        """What the client sends waits in the kernel, and then at the client."""
        if self._reading:
            self._reading = False
            self._transport.pause_reading()

    def read_on(self) -> None:
        """Take what waits."""
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()

    def abort(self) -> None:
        """Drop the connection whatever is under way."""
        self._transport.abort()

    @property
    def unread(self) -> int:
        """Bytes that the client has sent and this process has not read (FIONREAD, tcp(7)); 0 once it is closed."""
        try:
            count = ioctl(self.fileno(), FIONREAD, bytes(4))
        except (OSError, ValueError):
            return 0
        return int.from_bytes(count, sys.byteorder)

    def fileno(self) -> int:
        """The descriptor, to send it to another process."""
        return cast(int, self._transport.get_extra_info("socket").fileno())

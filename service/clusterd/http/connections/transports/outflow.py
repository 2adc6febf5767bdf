"""The sending side of a connection: the bytes that the kernel has not taken, and whether the client reads."""

import socket
import sys
from fcntl import ioctl
from termios import TIOCOUTQ

from clusterd.http.connections.transports.transfer import FileTransfer
from clusterd.http.connections.transports.transport import Transport


class Outflow:
    """Tracks the bytes that wait to be sent."""

    __slots__ = ("_transport", "_waiting", "is_clear", "transfer")

    def __init__(self, transport: Transport) -> None:
        self.move(transport)
        self._waiting = 0
        self.is_clear = True
        """Whether the kernel has taken everything that was written. False while a file is being sent."""
        self.transfer: FileTransfer | None = None
        """The file that is sent after what was written."""

    def move(self, transport: Transport) -> None:
        """Use this transport from now on."""
        # With a limit of 0, uvloop writes at once and pauses the connection only if the kernel did not take everything.
        # `is_clear` then means an empty buffer, which back pressure and handover need to know.
        transport.set_write_buffer_limits(high=0)
        self._transport = transport

    def has_file(self) -> bool:
        """Whether a file is being sent."""
        return self.transfer is not None

    def stop(self) -> None:
        """The kernel did not take everything."""
        self.is_clear = False
        self._waiting = self._left()

    def clear(self) -> None:
        """The kernel has taken the rest."""
        self.is_clear = True

    def has_moved(self) -> bool:
        """Whether the client has read anything since the last call."""
        before, self._waiting = self._waiting, self._left()
        return self._waiting < before

    def _left(self) -> int:
        left = self._transport.get_write_buffer_size() + self._in_kernel()
        return left if self.transfer is None else left + self.transfer.left

    def _in_kernel(self) -> int:
        """Bytes that the client has not acknowledged (SIOCOUTQ, tcp(7); Unix sockets support it too).

        The transport's buffer alone is not enough: the kernel takes more only when a third of its buffer of several
        megabytes is free. A client that reads 40 KB/s would seem not to read for half a minute.
        """
        try:
            count = ioctl(self._transport.get_extra_info("socket").fileno(), TIOCOUTQ, bytes(4))
        except (OSError, ValueError):  # The socket is closed.
            return 0
        return int.from_bytes(count, sys.byteorder)

    def send_on(self, sock: socket.socket) -> bool:
        """Send more of the file. Returns whether the kernel took everything."""
        assert self.transfer is not None
        self.transfer.go_on(sock, self._transport)
        if self.transfer.is_over:
            self.transfer = None
        return not self._transport.get_write_buffer_size()

    def drop_file(self) -> None:
        """Do not send the rest of the file."""
        self.transfer = None
        self.is_clear = not self._transport.get_write_buffer_size()

"""The sending side of a connection: what the kernel has not taken yet, and whether the client goes on reading."""

import socket
import sys
from fcntl import ioctl
from termios import TIOCOUTQ

from clusterd.http.connections.transfer import FileTransfer
from clusterd.http.connections.transport import Transport


class Outflow:
    """Watches what waits to be sent."""

    __slots__ = ("_transport", "_waiting", "is_clear", "transfer")

    def __init__(self, transport: Transport) -> None:
        self.move(transport)
        self._waiting = 0
        self.is_clear = True
        """Whether all that was written has been taken by the kernel."""
        self.transfer: FileTransfer | None = None
        """A file that follows what was written. As long as it is on its way, nothing is clear."""

    def move(self, transport: Transport) -> None:
        """Send by this transport from now on."""
        # With a limit of 0, uvloop writes at once and pauses the connection only for what the kernel did not
        # take: clear means an empty buffer, which is what back pressure and a hand-over need to know.
        transport.set_write_buffer_limits(high=0)
        self._transport = transport

    def has_file(self) -> bool:
        """Whether a file is on its way."""
        return self.transfer is not None

    def stop(self) -> None:
        """The kernel did not take everything."""
        self.is_clear = False
        self._waiting = self._left()

    def clear(self) -> None:
        """The kernel has taken the rest."""
        self.is_clear = True

    def has_moved(self) -> bool:
        """Whether the client has read anything since this was last asked."""
        before, self._waiting = self._waiting, self._left()
        return self._waiting < before

    def _left(self) -> int:
        left = self._transport.get_write_buffer_size() + self._in_kernel()
        return left if self.transfer is None else left + self.transfer.left

    def _in_kernel(self) -> int:
        """Bytes that the client has not acknowledged (SIOCOUTQ, tcp(7); unix sockets know it too).

        The kernel asks for more only when a third of its buffer is free, which has several megabytes: a client that
        reads 40 KB/s would seem not to read for half a minute.
        """
        try:
            count = ioctl(self._transport.get_extra_info("socket").fileno(), TIOCOUTQ, bytes(4))
        except (OSError, ValueError):  # closed already
            return 0
        return int.from_bytes(count, sys.byteorder)

    def send_on(self, sock: socket.socket) -> bool:
        """Send more of the file. Returns whether the kernel took all that it was given."""
        assert self.transfer is not None
        self.transfer.go_on(sock, self._transport)
        if self.transfer.is_over:
            self.transfer = None
        return not self._transport.get_write_buffer_size()

    def drop_file(self) -> None:
        """What is left of the file is not sent."""
        self.transfer = None
        self.is_clear = not self._transport.get_write_buffer_size()

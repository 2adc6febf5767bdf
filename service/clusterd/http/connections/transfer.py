"""Files that go out as they are: from the kernel's cache to the socket by sendfile(2), and never through here.

Between a transport and its protocol, and without a descriptor of its own that the loop would have to watch: when the
socket takes no more, a small piece of the file is written to the transport, and when the kernel has taken that, the
transport says so as it does after any write. So whatever becomes of the connection meanwhile, there is nothing to undo.
"""

import os
import socket
import stat
from io import BufferedReader
from pathlib import Path

from clusterd.http.connections.transport import Transport

SMALL_BYTES = 32 * 1024
"""A file up to this size is read and sent with its head in one write."""

TURN_BYTES = 512 * 1024
"""Sent in a row, before other connections have their turn. What is not in the kernel's cache is waited for here, as in
nginx, and holds up the loop for the disk's time: so a turn has an end also for a client that takes everything."""

PIECE_BYTES = 16 * 1024
"""Written to the transport when the socket is full."""


def regular_bytes(descriptor: int, offset: int = 0) -> int:
    """What a regular file holds from `offset` on; 0 for any other, and for those that do not know (/proc)."""
    status = os.fstat(descriptor)
    return max(0, status.st_size - offset) if stat.S_ISREG(status.st_mode) else 0


def open_path(path: str) -> bytes | BufferedReader:
    """The content of a small file, or the file. Blocks, as the disk does. Raises OSError."""
    file = Path(path).open("rb")  # noqa: SIM115 - closed by whoever sends it
    if 0 < (size := regular_bytes(file.fileno())) <= SMALL_BYTES:
        with file:
            return file.read(size)
    return file


class FileTransfer:
    """The bytes `offset` to `offset + size` of an open file, on their way. Who opened it closes it: afterwards."""

    __slots__ = ("_descriptor", "_is_short", "_offset", "left", "sent")

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self._is_short = False
        self.left = size
        """Bytes that neither the kernel nor the transport has."""
        self.sent = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes: all of it was sent, or the file ended early."""
        return not self.left or self._is_short

    def go_on(self, sock: socket.socket, transport: Transport) -> None:
        """Send a turn's worth over `transport`, whose socket does not block, and whose buffer is empty. If that is not
        empty afterwards, going on has to wait until it is.
        """
        wanted = min(self.left, TURN_BYTES)
        try:
            # Once the transport has closed the socket, fileno() is -1, and no number that is another's by now.
            sent = os.sendfile(sock.fileno(), self._descriptor, self._offset, wanted)
        except OSError:
            # Mostly the socket is full. If it is broken, the transport will notice; if the file is, reading it will;
            # and where it is on a filesystem without sendfile, this is the way for all of it.
            sent = 0
        self._note(sent)
        if sent < wanted:
            self._write_piece(transport)

    def _write_piece(self, transport: Transport) -> None:
        try:
            piece = os.pread(self._descriptor, min(self.left, PIECE_BYTES), self._offset)
        except OSError:  # the disk fails: all that the client can be told is that something is missing
            piece = b""
        if piece:
            self._note(len(piece))
            transport.write(piece)
        else:
            self._is_short = True

    def _note(self, sent: int) -> None:
        self._offset += sent
        self.sent += sent
        self.left -= sent

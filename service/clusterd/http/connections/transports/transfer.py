"""Sends files with sendfile(2), from the kernel's cache to the socket without a copy in this process.

The loop does not watch an additional descriptor. When the socket is full, a small piece of the file is written to the
transport. When the kernel has taken that piece, the transport calls `resume_writing` as after any write. Therefore
nothing needs to be undone if the connection ends in the meantime.
"""

import os
import socket
import stat
from io import BufferedReader
from pathlib import Path

from clusterd.http.connections.transports.transport import Transport

SMALL_BYTES = 32 * 1024
"""A file up to this size is read and sent with its head in one write."""

TURN_BYTES = 512 * 1024
"""Maximum bytes sent in a row before other connections have their turn. If the file is not in the kernel's cache, the
loop waits for the disk, as in nginx. This bounds that wait also for a client that takes everything."""

PIECE_BYTES = 16 * 1024
"""Bytes that are written to the transport when the socket is full."""


def regular_bytes(descriptor: int, offset: int = 0) -> int:
    """Return the size in bytes of a regular file from `offset` on. 0 for other files, and for files in /proc."""
    status = os.fstat(descriptor)
    return max(0, status.st_size - offset) if stat.S_ISREG(status.st_mode) else 0


def open_path(path: str) -> bytes | BufferedReader:
    """Return the content of a small file, or the open file. Blocks for the disk. Raises OSError."""
    file = Path(path).open("rb")  # noqa: SIM115 - its sender closes it
    if 0 < (size := regular_bytes(file.fileno())) <= SMALL_BYTES:
        with file:
            return file.read(size)
    return file


class FileTransfer:
    """Sends the bytes `offset` to `offset + size` of an open file. The caller closes the file afterwards."""

    __slots__ = ("_descriptor", "_is_short", "_offset", "left", "sent")

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self._is_short = False
        self.left = size
        """Bytes that neither the kernel nor the transport has taken."""
        self.sent = 0

    @property
    def is_over(self) -> bool:
        """Whether the transfer is over: everything was sent, or the file ended early."""
        return not self.left or self._is_short

    def go_on(self, sock: socket.socket, transport: Transport) -> None:
        """Send up to TURN_BYTES. `sock` must be non-blocking and the buffer of `transport` empty. If the buffer is not
        empty afterwards, wait until it is before the next call.
        """
        wanted = min(self.left, TURN_BYTES)
        try:
            # fileno() is read here: after the transport has closed the socket it is -1, and not a reused descriptor.
            sent = os.sendfile(sock.fileno(), self._descriptor, self._offset, wanted)
        except OSError:
            # Mostly the socket is full. The transport will notice a broken socket, and pread a broken file. On a
            # filesystem without sendfile, _write_piece sends the whole file.
            sent = 0
        self._note(sent)
        if sent < wanted:
            self._write_piece(transport)

    def _write_piece(self, transport: Transport) -> None:
        try:
            piece = os.pread(self._descriptor, min(self.left, PIECE_BYTES), self._offset)
        except OSError:  # The disk fails. The client can only be told by a short body.
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

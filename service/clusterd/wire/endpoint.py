"""One end of a SOCK_SEQPACKET socketpair, driven by an event loop.

The transports of asyncio and uvloop reject SOCK_SEQPACKET, so this module uses add_reader and add_writer with
non-blocking sendmsg and recvmsg.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress

from clusterd.wire.packets import Packet, arrived_bytes, close_all, receive, send


class SeqpacketEndpoint:
    """Owns the socket. `on_readable` is called as long as packets wait and reading is not paused."""

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop, on_readable: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._loop = loop
        self._on_readable = on_readable
        self._on_writable: Callable[[], None] | None = None
        self.is_open = True
        self.resume_reading()

    def fileno(self) -> int:
        """The descriptor on which packets arrive."""
        return self._socket.fileno()

    def send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send one packet. Raises BlockingIOError (the peer's queue is full) or OSError (the peer is gone)."""
        send(self._socket, data, descriptors)

    def receive(self) -> Packet | None:
        """Return the next packet, or None if the peer has closed. Raises as `packets.receive` does."""
        return receive(self._socket)

    def arrived_bytes(self) -> int:
        """How many bytes are in the packets that have arrived."""
        return arrived_bytes(self._socket)

    def call_when_writable(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, as soon as the peer's queue has room. It replaces a callback that still waits."""
        self._on_writable = callback
        self._loop.add_writer(self._socket.fileno(), self._writable)

    def pause_reading(self) -> None:
        """Do not call `on_readable` before `resume_reading`."""
        self._loop.remove_reader(self._socket.fileno())

    def resume_reading(self) -> None:
        """Call `on_readable` when a packet waits."""
        self._loop.add_reader(self._socket.fileno(), self._on_readable)

    def shut_down_reading(self) -> None:
        """From now on the peer cannot send. The packets that it has sent can still be received."""
        self._socket.shutdown(socket.SHUT_RD)

    def shut_down(self) -> None:
        """The peer sees the end, also if another process has a duplicate of this socket."""
        if self.is_open:
            with suppress(OSError):  # The peer is gone.
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket and call nothing more. A second call does nothing."""
        if not self.is_open:
            return
        self.is_open = False
        self._on_writable = None
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        close_all([self._socket.detach()])

    def _writable(self) -> None:
        callback, self._on_writable = self._on_writable, None
        self._loop.remove_writer(self._socket.fileno())
        if callback is not None:
            callback()

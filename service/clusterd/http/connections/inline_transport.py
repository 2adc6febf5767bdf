"""Where a new connection is served before the loop knows of it.

Most of what a connection costs that carries one request is its entry in the event loop, and its way out of it. So
the first bytes are read, and answered, on the bare socket; if that was all, the loop never hears of it. Whatever has to
wait (a request that is not here yet, an answer that takes time, a client that does not read, the next request) moves
in: a transport of the loop's takes the socket over.
"""

import asyncio
import socket
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Protocol

from clusterd.http.connections.loop_entry import LoopEntry
from clusterd.http.connections.transport import LoopTransport, Receiver, Transport

READ_BYTES = 64 * 1024

_AT_ONCE = socket.MSG_DONTWAIT
"""The socket itself may block: it is the loop that changes that, when it takes it."""


class Resident(Receiver, Protocol):
    """What is served here: a receiver that can do with another transport."""

    def arrived(self, doorstep: Transport, /) -> None:
        """Begin, on the doorstep."""

    def transport_changed(self, transport: Transport, /) -> None:
        """Go on with the loop's own transport."""

    def settled(self) -> None:
        """From now on, reading can be paused."""


class _End(Enum):
    """What is to become of the connection when it has moved in."""

    NONE = auto()
    EOF = auto()
    CLOSE = auto()
    ABORT = auto()


class InlineTransport:
    """The transport of `resident` at first; `entry` has the loop make one, with this as its first protocol."""

    __deletable__ = ("_resident",)  # mypyc's word for what `del` may be said of
    __slots__ = ("_end", "_entry", "_is_moving", "_is_over", "_loop", "_resident", "_socket", "_unsent")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        resident: Resident,
        entry: LoopEntry,
    ) -> None:
        if sock.timeout:
            # The application has set a default for all sockets (socket.setdefaulttimeout): Python would wait that long
            # before it so much as looks, _AT_ONCE or not, and the loop with it.
            sock.setblocking(False)
        self._loop = loop
        self._socket = sock
        self._resident = resident
        self._entry = entry
        self._unsent = b""
        self._end = _End.NONE
        self._is_moving = False
        self._is_over = False

    def begin(self) -> None:
        """Read what is here already, and have it answered. Moves in unless that was all."""
        resident = self._resident
        resident.arrived(self)
        if self._is_over:
            return
        try:
            data = self._socket.recv(READ_BYTES, _AT_ONCE)
        except BlockingIOError:
            self._move()
            return
        except OSError:
            self.abort()
            return
        if data:
            resident.data_received(data)
        elif not resident.eof_received():
            self.close()
        self._move()

    # ---- from above, as of a transport

    def write(self, data: bytes) -> None:
        """Send what the kernel takes; the rest when the connection has moved in."""
        if self._is_over:
            return
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self._socket.send(data, _AT_ONCE)
        except BlockingIOError:
            sent = 0
        except OSError:  # the client has gone
            self.abort()
            return
        if sent < len(data):
            self._unsent = data[sent:]
            self._resident.pause_writing()

    def write_eof(self) -> None:
        """Close our side when everything is out. What the client still sends is read when it has moved in."""
        self._end = _End.EOF

    def close(self) -> None:
        """Close when everything is out: at once, mostly."""
        if self._is_moving or self._unsent:
            self._end = _End.CLOSE
        else:
            self._lose()

    def abort(self) -> None:
        """Drop the connection."""
        if self._is_moving:
            self._end = _End.ABORT
        else:
            self._lose()

    def pause_reading(self) -> None:
        """Nothing is read here, after the first bytes."""

    def resume_reading(self) -> None:
        """As above."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """What is above is told to wait as soon as the kernel does not take everything."""

    def get_write_buffer_size(self) -> int:
        """Bytes that the kernel has not taken."""
        return len(self._unsent)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """The socket, and its addresses."""
        match name:
            case "socket":
                return self._socket
            case "peername":
                return _or(self._socket.getpeername, default)
            case "sockname":
                return _or(self._socket.getsockname, default)
        return default

    def _lose(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._socket.close()
            self._loop.call_soon(self._resident.connection_lost, None)
            self._leave()

    def _leave(self) -> None:
        """Each knows the other, and would wait for the garbage collector."""
        del self._resident

    # ---- moving in

    def _move(self) -> None:
        if not self._is_over and not self._is_moving:
            self._is_moving = True
            self._entry.enter(self._socket, self, self._failed)

    def _failed(self) -> None:
        """The loop could not take the socket: the client has gone."""
        self._lose()

    def connection_made(self, moved: LoopTransport) -> None:
        """The loop's transport is there."""
        resident = self._resident
        moved.set_protocol(resident)
        resident.transport_changed(moved)
        if self._unsent:
            moved.write(self._unsent)
            if not moved.get_write_buffer_size():
                resident.resume_writing()
        if self._end is _End.EOF:
            moved.write_eof()
        elif self._end is _End.CLOSE:
            moved.close()
        elif self._end is _End.ABORT:
            moved.abort()
        # The loop begins to read after this call.
        self._loop.call_soon(resident.settled)
        self._leave()


def _or(ask: Callable[[], Any], default: Any) -> Any:
    try:
        return ask()
    except OSError:
        return default

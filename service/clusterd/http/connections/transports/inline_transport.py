"""The inline transport: serves a new connection on its bare socket, outside the event loop.

For a connection with one request, adding it to the event loop and removing it again are most of its cost. So the inline
transport reads and answers the first bytes on the bare socket. If that completes the connection, the loop never sees
it. If anything has to wait (for the request, a client that reads slowly, or the next request), the connection moves
into the loop: a transport of the loop takes over the socket. Only for the response it waits here, because most are
complete soon. If this one is not, it moves, and the loop reads that the client has left.
"""

import asyncio
import socket
from collections.abc import Callable
from enum import Enum, auto
from os import sched_yield
from typing import Any, Protocol

from clusterd.http.connections.transports.loop_entry import LoopEntry
from clusterd.http.connections.transports.transport import LoopTransport, Receiver, Transport, shut_down

READ_BYTES = 64 * 1024

_AT_ONCE = socket.MSG_DONTWAIT
"""Flag for a single call, because the socket itself may block: only the loop makes it non-blocking."""


class Resident(Receiver, Protocol):
    """A receiver that can be served inline, and whose transport can then change."""

    def arrived(self, transport: Transport, /) -> None:
        """Begin with the inline transport."""

    @property
    def awaits_only_response(self) -> bool:
        """Whether a request is complete, nothing came after it, and its response has only to be made."""

    def stop_reading(self) -> None:
        """Read nothing until `read_on`."""

    def read_on(self) -> None:
        """Read again."""

    def awaits_first_bytes(self) -> None:
        """Nothing has arrived yet."""

    def transport_changed(self, transport: Transport, /) -> None:
        """Continue with a transport of the loop."""

    def settled(self) -> None:
        """The move is complete. From now on reading can be paused."""


class _End(Enum):
    """What to do with the connection after it has moved into the loop."""

    NONE = auto()
    EOF = auto()
    CLOSE = auto()
    ABORT = auto()


class InlineTransport:
    """The first transport of `resident`. `entry` has the loop make the next one, with this object as its protocol."""

    __deletable__ = ("_resident",)  # mypyc allows `del` only for these attributes.
    __slots__ = (
        "_end",
        "_entry",
        "_has_paused",
        "_is_moving",
        "_is_over",
        "_is_waiting",
        "_loop",
        "_resident",
        "_socket",
        "_unsent",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        resident: Resident,
        entry: LoopEntry,
    ) -> None:
        if sock.timeout:
            # The application has called socket.setdefaulttimeout(). In spite of _AT_ONCE, Python would then wait for up
            # to that time before it reads, and block the loop.
            sock.setblocking(False)
        self._loop = loop
        self._socket = sock
        self._resident = resident
        self._entry = entry
        self._unsent = bytearray()
        self._has_paused = False
        """Whether the resident was paused. It goes on after the move, so that nothing calls it while it writes."""
        self._end = _End.NONE
        self._is_waiting = False
        """Whether the resident waits here for its response. It does not read until it moves."""
        self._is_moving = False
        self._is_over = False

    def begin(self) -> None:
        """Read what has arrived, and have it answered. Then move into the loop unless the connection is over, or will
        probably soon be.
        """
        resident = self._resident
        resident.arrived(self)
        if self._is_over:
            return
        try:
            data = self._read()
        except OSError:
            self.abort()
            return
        if data is None:
            resident.awaits_first_bytes()
            self._move()
            return
        if data:
            resident.data_received(data)
        elif not resident.eof_received():
            self.close()
        if not self._is_over and resident.awaits_only_response:
            self._is_waiting = True
            resident.stop_reading()
            self._entry.enter_later(self)
        else:
            self._move()

    def _read(self) -> bytes | None:
        """Return what has arrived: b"" for the end, None for nothing. Raises OSError.

        A client sends its request as soon as it is connected, so what is not here yet mostly comes within microseconds.
        """
        try:
            return self._socket.recv(READ_BYTES, _AT_ONCE)
        except BlockingIOError:
            sched_yield()
        try:
            return self._socket.recv(READ_BYTES, _AT_ONCE)
        except BlockingIOError:
            return None

    def enter(self) -> None:
        """Move into the loop: the response takes long."""
        if self._is_waiting:
            self._move()

    # ---- as a Transport, for the resident

    def write(self, data: bytes) -> None:
        """Send what the kernel takes, and the rest after the connection has moved into the loop."""
        if self._is_over:
            return
        if self._unsent:
            self._unsent += data
            self._send_unsent()
            return
        try:
            sent = self._socket.send(data, _AT_ONCE)
        except BlockingIOError:
            sent = 0
        except OSError:  # The client has gone.
            self.abort()
            return
        if sent < len(data):
            self._unsent += data[sent:]
            if not self._has_paused:
                self._has_paused = True
                self._resident.pause_writing()
            self.enter()

    def _send_unsent(self) -> None:
        """Send what the client has made room for: a call on the loop may write much, and no loop turns meanwhile."""
        try:
            sent = self._socket.send(self._unsent, _AT_ONCE)
        except OSError:  # There is no room yet, or the client has gone, which the loop's transport will find.
            return
        del self._unsent[:sent]

    def write_eof(self) -> None:
        """Close our side when everything is out. Bytes of the client are read after the move into the loop."""
        self._end = _End.EOF

    def close(self) -> None:
        """Close when everything is out, which is mostly at once."""
        if self._is_moving or self._unsent:
            self._end = _End.CLOSE
        elif not self._is_over:
            # At once, so that the worker counts it no more when it decides about the next connection.
            self._lose().connection_lost(None)

    def abort(self) -> None:
        """Drop the connection."""
        if self._is_moving:
            self._end = _End.ABORT
        elif not self._is_over:
            # Later, because the resident may be writing.
            self._loop.call_soon(self._lose().connection_lost, None)

    def pause_reading(self) -> None:
        """Do nothing: this transport reads only once."""

    def resume_reading(self) -> None:
        """Move into the loop, which reads: this transport reads only once."""
        self.enter()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: the limit is 0, so the resident is paused as soon as the kernel does not take everything."""

    def get_write_buffer_size(self) -> int:
        """Bytes that the kernel has not taken."""
        return len(self._unsent)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the socket, or one of its addresses."""
        match name:
            case "socket":
                return self._socket
            case "peername":
                return _or(self._socket.getpeername, default)
            case "sockname":
                return _or(self._socket.getsockname, default)
        return default

    def _lose(self) -> Resident:
        """Close the socket. Returns the resident, which has to be told."""
        self._is_over = True
        self._is_waiting = False
        shut_down(self._socket)
        self._socket.close()
        return self._leave()

    def _leave(self) -> Resident:
        """Break the reference cycle with the resident, which only the garbage collector would free."""
        resident = self._resident
        del self._resident
        return resident

    # ---- the move into the loop

    def _move(self) -> None:
        if not self._is_over and not self._is_moving:
            self._is_moving = True
            if self._is_waiting:
                self._is_waiting = False
                self._resident.read_on()
            self._entry.enter(self._socket, self, self._failed)

    def _failed(self) -> None:
        """The loop could not take the socket, because the client has gone."""
        self._lose().connection_lost(None)

    def connection_made(self, moved: LoopTransport) -> None:
        """The loop has made its transport. Give it to the resident."""
        resident = self._resident
        moved.set_protocol(resident)
        resident.transport_changed(moved)
        if self._unsent:
            moved.write(bytes(self._unsent))
        if self._has_paused and not moved.get_write_buffer_size():
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

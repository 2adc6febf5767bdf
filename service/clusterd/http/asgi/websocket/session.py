"""An open WebSocket on a connection: back pressure, pings, and the closing handshake. No ASGI."""

from collections import deque
from collections.abc import Callable
from enum import Enum, auto

from clusterd.http.asgi.websocket.wire import Close, Fault, Incoming, Ping, Wire
from clusterd.http.connections.connection import Connection
from clusterd.http.connections.tunnel import Departure

PING_SECONDS = 20.0
"""Of silence before a client is asked whether it is there: below the minute after which proxies and NATs forget it."""

PONG_SECONDS = 20.0
"""For anything to come after that."""

CLOSE_SECONDS = 5.0
"""For the client's closing frame after ours."""

HELD_BYTES = 64 * 1024
"""More is not read from the client before the application has taken some."""

MESSAGE_COST = 64
"""Bytes that a message counts for beside its own: many empty ones are not nothing."""

_NO_ANSWER = Close(1011, "no answer to a ping")
_BROKEN = Close(1006)
"""The connection ended without a closing frame."""
_FAREWELLS = {
    Departure.RESTART: Close(1012, "the service restarts: come back at once"),
    Departure.STOP: Close(1001, "the service stops"),
}


class _Awaited(Enum):
    """What the client owes us."""

    NOTHING = auto()
    SIGN_OF_LIFE = auto()
    CLOSE = auto()


class Session:
    """The tunnel of a WebSocket, and what its owner sends and takes; `on_change` says that there is more to take."""

    __slots__ = (
        "_awaited",
        "_connection",
        "_held",
        "_inbox",
        "_is_deaf",
        "_on_change",
        "_owed_pong",
        "_wire",
        "closed",
    )

    def __init__(self, connection: Connection, wire: Wire, on_change: Callable[[], None]) -> None:
        self._connection = connection
        self._wire = wire
        self._on_change = on_change
        self._inbox: deque[str | bytes] = deque()
        self._held = 0
        """Bytes in the inbox."""
        self._awaited = _Awaited.NOTHING
        self._is_deaf = False
        """Whether nothing that the client sends means anything any more."""
        self._owed_pong: bytes | None = None
        """The answer to the client's last ping, while the client does not read."""
        self.closed: Close | None = None
        """How it ended, once the first closing frame was sent by either side. From then on nothing is sent."""

    # ---- for the owner

    def send(self, message: str | bytes) -> None:
        """Send a message; the owner waits while the connection is not writable."""
        if self.closed is None:
            self._connection.write(self._wire.message(message))

    def take(self) -> str | bytes | None:
        """The next message; None when there is none now."""
        if not self._inbox:
            return None
        was_full = self._is_full
        message = self._inbox.popleft()
        self._held -= len(message) + MESSAGE_COST
        if was_full and self._awaited is _Awaited.SIGN_OF_LIFE:
            self._note_life()  # what the client answered could not be read
        self._advance()
        return message

    def close(self, close: Close) -> None:
        """Begin the closing handshake; a client that does not join in is cut off."""
        if self.closed is None:
            self._connection.write(self._wire.close(close))
            self._awaited = _Awaited.CLOSE
            self._connection.deadline.within(CLOSE_SECONDS)
            self._end(close)
            self._advance()  # what comes is read and dropped, up to the client's closing frame

    def resume(self) -> None:
        """The client has read everything that was sent."""
        if self._owed_pong is not None:
            self._pong(self._owed_pong)
        self._note_life()

    def lost(self) -> None:
        """The connection is no more."""
        self._is_deaf = True
        self._end(_BROKEN)

    # ---- what the connection calls

    def receive(self, data: bytes) -> None:
        """Take what was read."""
        if self._awaited is not _Awaited.CLOSE:
            self._note_life()
        self._wire.take(data)
        self._advance()

    def expire(self) -> None:
        """Ask a silent client for a sign of life, and give up on one that gave none."""
        if self._awaited is _Awaited.CLOSE:
            self._connection.abort()
        elif self._awaited is _Awaited.NOTHING or self._is_full:
            # While nothing is read for want of room no answer can be seen; but a client that is gone will refuse it.
            self._awaited = _Awaited.SIGN_OF_LIFE
            self._connection.deadline.within(PONG_SECONDS)
            self._connection.write(self._wire.ping())
        else:
            self._fail(_NO_ANSWER)

    def depart(self, why: Departure) -> None:
        """Close, and tell the client whether to come back."""
        self.close(_FAREWELLS[why])

    # ----

    @property
    def _is_full(self) -> bool:
        """Whether nothing more is read now. Of a closed one everything is, and dropped."""
        return self._held >= HELD_BYTES and self.closed is None

    def _note_life(self) -> None:
        """Wait anew, for what is to come next."""
        if self._awaited is _Awaited.CLOSE:
            self._connection.deadline.within(CLOSE_SECONDS)
            return
        self._awaited = _Awaited.NOTHING
        if self._connection.writable:  # otherwise the connection waits for its client to read
            self._connection.deadline.within(PING_SECONDS)

    def _advance(self) -> None:
        """Understand what was read, as far as there is room for it."""
        while not self._is_full and not self._is_deaf:
            incoming = self._wire.next()
            if incoming is None:
                self._connection.read_on()
                return
            if isinstance(incoming, (Close, Fault)):
                self._finish(incoming)
                return
            self._handle(incoming)
        if not self._is_deaf:
            self._connection.stop_reading()

    def _handle(self, incoming: Incoming) -> None:
        if self.closed is not None:
            return
        if isinstance(incoming, Ping):
            if self._connection.writable:
                self._pong(incoming.payload)
            else:
                self._owed_pong = incoming.payload  # the last one answers all before it (RFC 6455 section 5.5.3)
        elif isinstance(incoming, (str, bytes)):
            self._inbox.append(incoming)
            self._held += len(incoming) + MESSAGE_COST
            self._on_change()

    def _pong(self, payload: bytes) -> None:
        self._owed_pong = None
        if self.closed is None:
            self._connection.write(self._wire.pong(payload))

    def _finish(self, incoming: Close | Fault) -> None:
        """The client closes, or has answered our closing frame, or is not to be understood any more."""
        self._is_deaf = True
        if self.closed is not None:
            self._connection.leave()
        elif isinstance(incoming, Fault):
            self._fail(incoming.close)
        else:
            self._connection.write(self._wire.close(incoming))
            self._end(incoming)
            self._connection.leave()

    def _fail(self, close: Close) -> None:
        """Close without waiting for an answer (RFC 6455 section 7.1.7)."""
        self._connection.write(self._wire.close(close))
        self._end(close)
        self._connection.leave()

    def _end(self, close: Close) -> None:
        if self.closed is None:
            self.closed = close
            self._on_change()

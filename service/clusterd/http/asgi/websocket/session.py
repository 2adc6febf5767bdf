"""An open WebSocket on a connection: back pressure, pings, and the closing handshake. Knows nothing of ASGI."""

from collections import deque
from collections.abc import Callable
from enum import Enum, auto

from clusterd.http.asgi.websocket.frames import Close, Fault, Incoming, Pause, Ping
from clusterd.http.asgi.websocket.wire import Wire
from clusterd.http.connections.connection import Connection
from clusterd.http.connections.tunnel import Departure
from clusterd.http.messages.allowance import Allowance
from clusterd.http.messages.quota import Quota

PING_SECONDS = 20.0
"""Time without bytes of the client before it is sent a ping. Shorter than the minute after which proxies and NATs drop
idle connections."""

PONG_SECONDS = 20.0
"""Time after a ping for any bytes of the client to arrive."""

CLOSE_SECONDS = 5.0
"""Time after our closing frame for the client's to arrive."""

HELD_BYTES = 64 * 1024
"""While this many bytes wait for the application, the session does not read more from the client."""

MESSAGE_COST = 64
"""Bytes that each message counts in addition to its own, because empty messages use memory too."""

_TOO_MANY = Close(1008, "too many control frames or small fragments")
_NO_MEMORY = Close(1013, "too many messages wait: come back later")
_NO_ANSWER = Close(1011, "no answer to a ping")
_BROKEN = Close(1006)
"""The connection ended without a closing frame."""
_FAREWELLS = {
    Departure.RESTART: Close(1012, "the service restarts: come back at once"),
    Departure.STOP: Close(1001, "the service stops"),
}


class _Awaited(Enum):
    """What the session waits for from the client."""

    NOTHING = auto()
    SIGN_OF_LIFE = auto()
    CLOSE = auto()


class Session:
    """The tunnel of a WebSocket. Its owner sends and takes messages. `on_change` is called when there is a new message,
    and when the session has ended.
    """

    __slots__ = (
        "_allowance",
        "_awaited",
        "_awaits_turn",
        "_charged",
        "_connection",
        "_held",
        "_inbox",
        "_is_deaf",
        "_on_change",
        "_owed_pong",
        "_quota",
        "_wire",
        "closed",
    )

    def __init__(self, connection: Connection, wire: Wire, quota: Quota, on_change: Callable[[], None]) -> None:
        self._connection = connection
        self._wire = wire
        self._quota = quota
        self._charged = 0
        """Bytes of the quota that this session uses: those of its messages that the application has not taken."""
        self._on_change = on_change
        self._inbox: deque[str | bytes] = deque()
        self._held = 0
        """Bytes in the inbox, including MESSAGE_COST for each message."""
        self._awaited = _Awaited.NOTHING
        self._allowance = Allowance()
        self._awaits_turn = False
        """Whether decoding goes on in the loop's next round."""
        self._is_deaf = False
        """Whether further bytes of the client are ignored."""
        self._owed_pong: bytes | None = None
        """The payload of the client's last ping, while the client does not read."""
        self.closed: Close | None = None
        """How the session ended. Set when either side sends the first closing frame. No message is sent afterwards."""

    # ---- for the owner

    def send(self, message: str | bytes) -> None:
        """Send a message. The owner must wait while the connection is not writable."""
        if self.closed is None:
            self._connection.write(self._wire.message(message))

    def take(self) -> str | bytes | None:
        """Return the next message; None if there is none now."""
        if not self._inbox:
            return None
        was_full = self._is_full
        message = self._inbox.popleft()
        self._held -= len(message) + MESSAGE_COST
        if was_full and self._awaited is _Awaited.SIGN_OF_LIFE:
            self._note_life()  # The session did not read, so it could not see an answer of the client.
        self._advance()
        return message

    def close(self, close: Close) -> None:
        """Begin the closing handshake. A client that does not answer within CLOSE_SECONDS is dropped."""
        if self.closed is None:
            self._connection.write(self._wire.close(close))
            self._awaited = _Awaited.CLOSE
            self._connection.deadline.within(CLOSE_SECONDS)
            self._end(close)
            self._advance()  # Messages are read and dropped up to the client's closing frame.

    def resume(self) -> None:
        """The client has read everything that was sent."""
        if self._owed_pong is not None:
            self._pong(self._owed_pong)
        self._note_life()

    def lost(self) -> None:
        """The connection has closed."""
        self._is_deaf = True
        self._end(_BROKEN)
        self._account()

    # ---- what the connection calls

    def receive(self, data: bytes) -> None:
        """Take bytes that were read."""
        if self._awaited is not _Awaited.CLOSE:
            self._note_life()
        self._wire.take(data)
        if not self._awaits_turn:
            self._wire.begin_turn()
            self._advance()

    def expire(self) -> None:
        """Send a ping to a silent client. Close the WebSocket if the client did not answer the last ping."""
        if self._awaited is _Awaited.CLOSE:
            self._connection.abort()
        elif self._awaited is _Awaited.NOTHING or self._is_full:
            # While the inbox is full, no answer can be read. The ping still detects a client that has gone, because
            # its system refuses the bytes.
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
        """Whether reading should stop. A closed session reads everything and drops it."""
        return self._held >= HELD_BYTES and self.closed is None

    def _note_life(self) -> None:
        """Renew the deadline: the client has shown that it is there."""
        if self._awaited is _Awaited.CLOSE:
            self._connection.deadline.within(CLOSE_SECONDS)
            return
        self._awaited = _Awaited.NOTHING
        if self._connection.writable:  # Otherwise the connection has set a deadline for the client to read.
            self._connection.deadline.within(PING_SECONDS)

    def _advance(self) -> None:
        """Parse what was read as far as the inbox has room, and as much as one turn allows."""
        self._decode()
        if not self._account() and self.closed is None:
            self._is_deaf = True
            self._fail(_NO_MEMORY)

    def _account(self) -> bool:
        """Charge the quota for the messages that wait. Returns whether there was as much left."""
        if self._is_deaf:
            self._wire.forget()
        uses = self._wire.held + self._held
        more, self._charged = uses - self._charged, uses
        if self._is_deaf and more < 0:
            self._quota.dropped -= more
        return self._quota.take(more)

    def _decode(self) -> None:
        while not (self._is_full or self._is_deaf or self._awaits_turn):
            incoming = self._wire.next()
            if incoming is None:
                if self._is_allowed():
                    self._connection.read_on()
                return
            if isinstance(incoming, (Close, Fault)):
                self._finish(incoming)
            elif not isinstance(incoming, Pause):
                self._handle(incoming)
            elif self._is_allowed():
                self._awaits_turn = True
                self._connection.in_next_turn(self._advance_in_turn)
        if not self._is_deaf:
            self._connection.stop_reading()

    def _advance_in_turn(self) -> None:
        self._awaits_turn = False
        self._wire.begin_turn()
        self._advance()

    def _is_allowed(self) -> bool:
        """Account for what the client has sent that only costs. Close the WebSocket if it was too much."""
        small, self._wire.small = self._wire.small, 0
        is_allowed = self._allowance.spend(small)
        if not is_allowed:
            self._is_deaf = True
            if self.closed is None:
                self._fail(_TOO_MANY)
            else:
                self._connection.leave()
        return is_allowed

    def _handle(self, incoming: Incoming) -> None:
        if self.closed is not None:
            return
        if isinstance(incoming, Ping):
            if self._connection.writable:
                self._pong(incoming.payload)
            else:
                self._owed_pong = incoming.payload  # A pong to the last ping is enough (RFC 6455 section 5.5.3).
        elif isinstance(incoming, (str, bytes)):
            self._inbox.append(incoming)
            self._held += len(incoming) + MESSAGE_COST
            self._on_change()

    def _pong(self, payload: bytes) -> None:
        self._owed_pong = None
        if self.closed is None:
            self._connection.write(self._wire.pong(payload))

    def _finish(self, incoming: Close | Fault) -> None:
        """Handle the client's closing frame, or a violation of the protocol."""
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

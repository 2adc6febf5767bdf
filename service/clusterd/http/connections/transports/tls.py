"""The TLS layer between a connection and its socket, on OpenSSL's memory buffers.

It is the protocol of the socket's transport and the transport of the connection, so that the connection need not know
about TLS. uvloop's own TLS was rejected for three reasons. It begins with the first byte of a socket, where a PROXY
protocol header may come first. It cannot close one direction while the client still reads, which every last response
needs (RFC 9112 section 9.6). With this layer, a connection of which no byte was read can still be handed over.
"""

import ssl
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from clusterd.http.connections.transports.transport import LoopTransport, Receiver
from clusterd.http.connections.transports.turns import Turns

READ_BYTES = 64 * 1024
"""OpenSSL returns one record at a time, of at most 16 KiB."""

TURN_RECORDS = 64
"""Maximum records of one client that are decrypted in a row before other connections have their turn. One read from the
socket may bring eleven thousand records of a byte each, which take longer than other clients should wait."""

MOST_UNREAD = 64 * 1024
"""Maximum bytes of TLS's own responses that wait for a client. A client that keeps asking for new keys or a
renegotiation, and never reads, would otherwise fill the memory with them."""

_PLAIN_HTTP = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"400 Bad Request: this port speaks HTTPS: write https://\n"
)


class _Stage(Enum):
    """The stage of the TLS connection."""

    UNTOUCHED = auto()
    """Nothing has been read."""
    HANDSHAKE = auto()
    OPEN = auto()
    ENDED = auto()
    """Our side is closed, or the handshake has failed. Further bytes are dropped."""


class TlsLayer:
    """The TLS of one connection. Calls `secured` when the handshake is complete, or `failed` with the reason."""

    __deletable__ = ("_above", "_failed", "_secured")  # mypyc allows `del` only for these attributes.

    def __init__(
        self,
        transport: LoopTransport,
        context: ssl.SSLContext,
        above: Receiver,
        secured: Callable[[], object],
        failed: Callable[[str], object],
        turns: Turns,
    ) -> None:
        self._transport = transport
        self._above = above
        self._secured = secured
        self._failed = failed
        self._turns = turns
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._stage = _Stage.UNTOUCHED
        self._client_closed = False
        self._unread = 0
        self._is_paused = False
        """Whether the connection above has stopped reading."""
        self._has_more = False
        """Whether records wait for this connection's turn. Nothing is read from the socket meanwhile."""
        self._awaits_turn = False
        self.is_plain = False
        """Whether the first byte of the client is a letter, as in HTTP and never in TLS."""
        self._transport.set_protocol(self)

    @property
    def is_untouched(self) -> bool:
        """Whether nothing has been read. There is then no TLS state that another process would need."""
        return self._stage is _Stage.UNTOUCHED

    @property
    def is_open(self) -> bool:
        """Whether the handshake is complete and our side has not ended TLS."""
        return self._stage is _Stage.OPEN

    @property
    def held(self) -> int:
        """Bytes that were read from the socket and are not decrypted yet."""
        return self._incoming.pending if self._has_more else 0

    # ---- from the socket

    def data_received(self, data: bytes) -> None:
        """Take bytes of the handshake, or records for the connection above."""
        if self._stage is _Stage.ENDED or self._client_closed:
            return
        if self._stage is _Stage.UNTOUCHED:
            self.is_plain = data[:1].isalpha()  # A handshake begins with 22 (RFC 8446 section 5.1).
        self._incoming.write(data)
        try:
            if not self.is_open and not self._shake_hands():
                return
        except ssl.SSLError as error:
            self._break(error)
            return
        self._receive()

    def _receive(self) -> None:
        try:
            pieces = self._decrypt()
        except ssl.SSLError as error:
            self._break(error)
            return
        self._deliver(pieces)

    def _receive_in_turn(self) -> None:
        self._awaits_turn = False
        if self.is_open and not self._is_paused:
            self._receive()

    def _hold(self, has_more: bool) -> None:
        """Read from the socket only while no record waits. With `has_more`, go on in the next turn."""
        if has_more != self._has_more:
            self._has_more = has_more
            if not self._is_paused:
                if has_more:
                    self._transport.pause_reading()
                else:
                    self._transport.resume_reading()
        if has_more and not self._awaits_turn:
            self._awaits_turn = True
            self._turns.add(self._receive_in_turn)

    def _deliver(self, pieces: list[bytes]) -> None:
        if pieces:
            self._above.data_received(b"".join(pieces))
        if self._client_closed and not self._above.eof_received():
            self.close()

    def _shake_hands(self) -> bool:
        self._stage = _Stage.HANDSHAKE
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        self._flush()
        self._stage = _Stage.OPEN
        self._secured()
        return self.is_open

    def _decrypt(self) -> list[bytes]:
        pieces: list[bytes] = []
        has_more = False
        # Check for pending bytes first, because an exception for each read would cost as much as the read.
        while self._incoming.pending or self._tls.pending():
            if len(pieces) == TURN_RECORDS:
                has_more = True
                break
            try:
                piece = self._tls.read(READ_BYTES)
            except ssl.SSLWantReadError:
                break
            if not piece:  # The client has sent close_notify.
                self._client_closed = True
                break
            pieces.append(piece)
        if has_more or self._has_more:
            self._hold(has_more)
        if self._outgoing.pending:
            self._flush_answers()
        return pieces

    def _flush_answers(self) -> None:
        """Send TLS's own responses. Drop a client that does not read them."""
        self._unread += self._outgoing.pending
        self._flush()
        if not self._transport.get_write_buffer_size():
            self._unread = 0
        elif self._unread > MOST_UNREAD:
            self.abort()

    def eof_received(self) -> bool | None:
        """The client has closed its sending side without a close_notify. A truncated request is detected by HTTP."""
        if self._client_closed:
            return True  # Known since the close_notify, and the connection above has decided.
        return self._above.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is closed."""
        self._stage = _Stage.ENDED
        above = self._above
        # Break the reference cycle. Otherwise OpenSSL's memory would wait for the garbage collector.
        del self._above, self._secured, self._failed
        above.connection_lost(error)

    def pause_writing(self) -> None:
        """The kernel did not take everything."""
        self._above.pause_writing()

    def resume_writing(self) -> None:
        """The kernel has taken everything."""
        self._above.resume_writing()

    def _break(self, error: ssl.SSLError) -> None:
        was_open = self.is_open
        self._stage = _Stage.ENDED
        if was_open:
            self._transport.abort()  # The bytes were modified or forged on the way.
            return
        if self.is_plain:
            self._outgoing.read()
            self._transport.write(_PLAIN_HTTP)
        self._flush()
        self._failed(error.reason or str(error))

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())

    # ---- as a Transport, for the connection above

    def write(self, data: bytes) -> None:
        """Send `data`, encrypted."""
        if not self.is_open:
            return
        left = memoryview(data)
        while left:
            written = self._tls.write(left)
            left = left[written:]
        self._flush()

    def write_eof(self) -> None:
        """Close our side in TLS, and then that of the socket. The client can read everything that was sent before."""
        self._say_goodbye()
        self._transport.write_eof()

    def close(self) -> None:
        """Close both sides when everything that was written is out."""
        self._say_goodbye()
        self._transport.close()

    def _say_goodbye(self) -> None:
        if not self.is_open:
            return
        self._stage = _Stage.ENDED
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # Our close_notify is written. The client's is not awaited.
        self._flush()

    def abort(self) -> None:
        """Drop the connection."""
        self._stage = _Stage.ENDED
        self._transport.abort()

    def pause_reading(self) -> None:
        """Stop reading. The client's bytes wait in the kernel."""
        self._is_paused = True
        if not self._has_more:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._is_paused = False
        if not self._has_more:
            self._transport.resume_reading()
        elif self.is_open:
            self._hold(True)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the buffer sizes at which the connection above is paused and resumed."""
        self._transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Return the number of encrypted bytes that the kernel has not taken."""
        return self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return information of the socket's transport."""
        return self._transport.get_extra_info(name, default)

"""TLS between a connection and its socket, over OpenSSL's memory buffers.

To the socket's transport it is the protocol, to what is above it the transport, so that nothing above knows of it.
Not uvloop's own TLS: that begins with the first byte of a socket, where a PROXY protocol header may come before; it
cannot close one direction and let the client read on, which every last response needs (RFC 9112 section 9.6); and
as long as nothing has been read of the handshake, a connection here can still move to another process.
"""

import ssl
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from clusterd.http.connections.transport import LoopTransport, Receiver

READ_BYTES = 64 * 1024
"""OpenSSL gives a record at a time, of at most 16 KiB."""

MOST_UNREAD = 64 * 1024
"""Bytes of TLS's own answers that wait for a client. One that only asks (for new keys, for a renegotiation), as often
as it can, and never reads would fill the memory with them."""

_PLAIN_HTTP = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"400 Bad Request: this port speaks HTTPS: write https://\n"
)


class _Stage(Enum):
    """Where the TLS connection stands."""

    UNTOUCHED = auto()
    """Nothing has been read."""
    HANDSHAKE = auto()
    OPEN = auto()
    ENDED = auto()
    """Our side is closed, or the handshake failed: what comes is dropped."""


class TlsLayer:
    """One connection's. `secured` is called when the handshake is through, `failed` with the reason when it is not."""

    __deletable__ = ("_above", "_failed", "_secured")  # mypyc's word for what `del` may be said of

    def __init__(
        self,
        transport: LoopTransport,
        context: ssl.SSLContext,
        above: Receiver,
        secured: Callable[[], object],
        failed: Callable[[str], object],
    ) -> None:
        self._transport = transport
        self._above = above
        self._secured = secured
        self._failed = failed
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._stage = _Stage.UNTOUCHED
        self._client_closed = False
        self._unread = 0
        self._is_plain = False
        """Whether the client began with a letter, as HTTP does and TLS does not."""
        self._transport.set_protocol(self)

    @property
    def is_untouched(self) -> bool:
        """Whether nothing has been read: then there is nothing that another process would have to know."""
        return self._stage is _Stage.UNTOUCHED

    @property
    def is_open(self) -> bool:
        """Whether the handshake is through, and neither side has ended it."""
        return self._stage is _Stage.OPEN

    # ---- from the socket

    def data_received(self, data: bytes) -> None:
        """Take what was read: of the handshake, or records for what is above."""
        if self._stage is _Stage.ENDED or self._client_closed:
            return
        if self._stage is _Stage.UNTOUCHED:
            self._is_plain = data[:1].isalpha()  # a handshake begins with 22 (RFC 8446 section 5.1)
        self._incoming.write(data)
        try:
            if not self.is_open and not self._shake_hands():
                return
            pieces = self._decrypt()
        except ssl.SSLError as error:
            self._break(error)
            return
        self._deliver(pieces)

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
        pieces = []
        # Asked for what is there: an exception for each read costs as much as the read.
        while self._incoming.pending or self._tls.pending():
            try:
                piece = self._tls.read(READ_BYTES)
            except ssl.SSLWantReadError:
                break
            if not piece:  # the client's close_notify
                self._client_closed = True
                break
            pieces.append(piece)
        if self._outgoing.pending:
            self._flush_answers()
        return pieces

    def _flush_answers(self) -> None:
        """To what the client has asked of TLS itself."""
        self._unread += self._outgoing.pending
        self._flush()
        if not self._transport.get_write_buffer_size():
            self._unread = 0
        elif self._unread > MOST_UNREAD:
            self._transport.abort()

    def eof_received(self) -> bool | None:
        """The client sends nothing more, and has not said so in TLS: of a request that is incomplete, that is plain."""
        if self._client_closed:
            return True  # known already, and what is above has decided
        return self._above.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is closed."""
        self._stage = _Stage.ENDED
        above = self._above
        # Each knows the other, and would wait for the garbage collector with all that OpenSSL keeps.
        del self._above, self._secured, self._failed
        above.connection_lost(error)

    def pause_writing(self) -> None:
        """The kernel did not take everything."""
        self._above.pause_writing()

    def resume_writing(self) -> None:
        """It has."""
        self._above.resume_writing()

    def _break(self, error: ssl.SSLError) -> None:
        was_open = self.is_open
        self._stage = _Stage.ENDED
        if was_open:
            self._transport.abort()  # somebody has changed what was sent, or made it up
            return
        if self._is_plain:
            self._outgoing.read()
            self._transport.write(_PLAIN_HTTP)
        self._flush()
        self._failed(error.reason or str(error))

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())

    # ---- from above, as of a transport

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
        """Close our side, in TLS and then of the socket; the client can read everything until then."""
        self._say_goodbye()
        self._transport.write_eof()

    def close(self) -> None:
        """Close both sides when all that was written is out."""
        self._say_goodbye()
        self._transport.close()

    def _say_goodbye(self) -> None:
        if not self.is_open:
            return
        self._stage = _Stage.ENDED
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # it is written, and the client's own is not waited for
        self._flush()

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()

    def pause_reading(self) -> None:
        """What the client sends waits in the kernel."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take what waits."""
        self._transport.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """When what is above is told to wait."""
        self._transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Bytes, encrypted, that the kernel has not taken."""
        return self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What the socket's transport knows."""
        return self._transport.get_extra_info(name, default)

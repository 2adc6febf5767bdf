"""The receiving side of a connection: requests out of bytes, one at a time and within limits. No socket, no clock."""

from collections.abc import Callable
from enum import Enum, auto
from time import monotonic

from clusterd.http.messages.framing import CHUNKED, ChunkDecoder, framing_of
from clusterd.http.messages.head import Head, HeadParser, find_end, skip_empty_lines
from clusterd.http.messages.sink import Sink
from clusterd.http.settings import Limits


class Request:
    """A request: under way once its head is here, complete once its body is."""

    __slots__ = ("body", "head", "is_complete", "started")

    def __init__(self, head: Head) -> None:
        self.head = head
        self.body: Sink | None = None
        """None when it has none."""
        self.is_complete = False
        self.started = monotonic()
        """When the head was complete."""


class Received(Enum):
    """How much of the next request is here."""

    NOTHING = auto()
    HEAD = auto()
    """A part of a head."""
    BODY = auto()
    """The head, and not all of the body."""
    REQUEST = auto()
    """All of it."""


_REQUEST = Received.REQUEST  # on Python 3.11 an enum's attribute costs four times as much


class Reception:
    """Takes bytes as they come; gives requests as they are complete."""

    __slots__ = ("_buffer", "_decoder", "_heads", "_limits", "_missing", "_new_body", "is_awaited", "request")

    def __init__(self, heads: HeadParser, limits: Limits, new_body: Callable[[int], Sink]) -> None:
        self._heads = heads
        self._limits = limits
        self._new_body = new_body
        self._buffer: bytes | bytearray = b""
        self._decoder: ChunkDecoder | None = None
        self._missing = 0
        self.request: Request | None = None
        """The request under way, being received or answered."""
        self.is_awaited = False
        """Whether its client sends nothing of the body before it is told to go on (RFC 9110 section 10.1.1)."""

    @property
    def is_receiving(self) -> bool:
        """Whether a part of the body of the request under way is still to come."""
        return self.request is not None and not self.request.is_complete

    @property
    def pending(self) -> int:
        """Bytes that were read and do not belong to the request under way."""
        return len(self._buffer)

    @property
    def residual(self) -> bytes:
        """Those bytes."""
        return bytes(self._buffer)

    def take(self, data: bytes) -> None:
        """Add what was read."""
        if not self._buffer:
            self._buffer = data
        else:
            if isinstance(self._buffer, bytes):
                self._buffer = bytearray(self._buffer)
            self._buffer += data

    def advance(self) -> Received:
        """Go on with the request under way, or begin the next one.

        Raises Refusal for what cannot be answered, OSError when a body cannot be stored.
        """
        if self.request is not None:
            return self._receive_body(self.request)
        if self._buffer.startswith(b"\r"):
            # Empty lines before a request are ignored (RFC 9112 section 2.2), and half of one begins nothing.
            begin = skip_empty_lines(self._buffer)
            self._buffer = self._buffer[begin:]
            if self._buffer == b"\r":
                return Received.NOTHING
        if not self._buffer:
            return Received.NOTHING
        end = find_end(self._buffer, self._limits)
        return self._begin(end) if end else Received.HEAD

    def _begin(self, end: int) -> Received:
        limits = self._limits
        buffer = self._buffer if type(self._buffer) is bytes else bytes(self._buffer)
        head = self._heads.parse(buffer if end == len(buffer) else buffer[:end])
        self.request = request = Request(head)
        length, expects_continue, _ = head.framing or framing_of(head, limits)
        self._buffer = self._buffer[end:]
        if length == 0:
            request.is_complete = True
            return _REQUEST
        self.is_awaited = expects_continue and not self._buffer
        self._missing = max(length, 0)
        request.body = body = self._new_body(self._missing)
        self._decoder = ChunkDecoder(body.write, limits) if length == CHUNKED else None
        return self._receive_body(request) if self._buffer else Received.BODY

    def _receive_body(self, request: Request) -> Received:
        body = request.body
        assert body is not None
        data, self._buffer = bytes(self._buffer), b""
        self.is_awaited = False
        if self._decoder is not None:
            rest = self._decoder.feed(data)
            if rest is None:
                return Received.BODY
        else:
            piece = data[: self._missing]
            body.write(piece)
            self._missing -= len(piece)
            if self._missing:
                return Received.BODY
            rest = data[len(piece) :]
        self._buffer = rest
        request.is_complete = True
        body.end()
        return Received.REQUEST

    def finish(self) -> None:
        """The request under way is over. Its body is closed by whoever reads it last."""
        self.request = None
        self._decoder = None
        self.is_awaited = False

    def drop(self) -> None:
        """Forget what was read beyond it: it will not be answered."""
        self._buffer = b""

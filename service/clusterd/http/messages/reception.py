"""The receiving side of a connection: turns bytes into requests, one at a time and within limits. Uses no socket."""

from collections.abc import Callable
from enum import Enum, auto
from time import monotonic

from clusterd.http.messages.framing import CHUNKED, ChunkDecoder, framing_of
from clusterd.http.messages.head import Head, HeadParser, find_end, skip_empty_lines
from clusterd.http.messages.sink import Sink
from clusterd.http.settings import Limits


class Request:
    """A request. It exists once its head has arrived, and is complete once its body has."""

    __slots__ = ("body", "head", "id", "is_complete", "on_client", "returned_id", "started", "waited")

    def __init__(self, head: Head) -> None:
        self.head = head
        self.body: Sink | None = None
        """None if the request has no body."""
        self.is_complete = False
        self.started = monotonic()
        """When the head was complete, by time.monotonic()."""
        self.waited = -1.0
        """Seconds from when the application could have been called until it was; -1 before. Set where it is called."""
        self.id = ""
        """Its identifier. Empty without `request_ids`."""
        self.returned_id = ""
        """The identifier, if the response is to have it."""
        self.on_client = 0.0
        """How long it has waited for its client to send the body, and to read the response, in seconds."""

    def begins(self) -> None:
        """Note that the application is called, for one that receives the body itself."""
        if self.waited < 0.0:
            self.waited = monotonic() - self.started


class Received(Enum):
    """How much of the next request has arrived."""

    NOTHING = auto()
    HEAD = auto()
    """A part of a head."""
    BODY = auto()
    """The head and not all of the body."""
    REQUEST = auto()
    """The whole request."""


_REQUEST = Received.REQUEST  # On Python 3.11 access to an enum's attribute costs four times as much.


class Reception:
    """Takes bytes as they arrive, and returns requests as they become complete."""

    __slots__ = ("_buffer", "_decoder", "_heads", "_limits", "_missing", "_new_body", "is_awaited", "request")

    def __init__(self, heads: HeadParser, limits: Limits, new_body: Callable[[int], Sink]) -> None:
        self._heads = heads
        self._limits = limits
        self._new_body = new_body
        self._buffer: bytes | bytearray = b""
        self._decoder: ChunkDecoder | None = None
        self._missing = 0
        self.request: Request | None = None
        """The current request, which is being received or answered."""
        self.is_awaited = False
        """Whether the client waits for `100 Continue` before it sends the body (RFC 9110 section 10.1.1)."""

    @property
    def is_receiving(self) -> bool:
        """Whether a part of the current request's body has not arrived."""
        return self.request is not None and not self.request.is_complete

    @property
    def is_paused(self) -> bool:
        """Whether there is more of the body to decode, in another turn."""
        return self._decoder is not None and self._decoder.is_paused

    @property
    def pending(self) -> int:
        """Number of bytes that were read and do not belong to the current request."""
        return len(self._buffer)

    @property
    def residual(self) -> bytes:
        """The bytes that were read and do not belong to the current request."""
        return bytes(self._buffer)

    @property
    def begins_head_request(self) -> bool:
        """Whether the bytes of which no request has come yet begin like a HEAD request."""
        begin = skip_empty_lines(self._buffer)
        return self._buffer[begin : begin + 5] == b"HEAD "

    def take(self, data: bytes) -> None:
        """Add bytes that were read."""
        if not self._buffer:
            self._buffer = data
        else:
            if isinstance(self._buffer, bytes):
                self._buffer = bytearray(self._buffer)
            self._buffer += data

    def advance(self) -> Received:
        """Continue with the current request, or begin the next one.

        Raises Refusal if the request must be refused, OSError if its body cannot be stored.
        """
        if self.request is not None:
            return self._receive_body(self.request)
        if self._buffer.startswith(b"\r"):
            # Empty lines before a request are ignored (RFC 9112 section 2.2). Half an empty line begins no request.
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
        """The current request is over. The last reader of its body closes the body."""
        self.request = None
        self._decoder = None
        self.is_awaited = False

    def drop(self) -> None:
        """Discard the bytes that were read beyond the current request. They will not be answered."""
        self._buffer = b""

"""How a request's body is delimited (RFC 9112 sections 6 and 7), and whether the connection goes on after it."""

import re
from collections.abc import Callable
from enum import Enum, auto
from http import HTTPStatus

from clusterd.http.messages.grammar import FIELD_LINES
from clusterd.http.messages.head import Framing, Head
from clusterd.http.messages.refusal import Refusal, bad_request
from clusterd.http.settings import Limits

CHUNKED = -1
"""In place of a length: the body says itself where it ends."""

CHUNK_LINE_LIMIT = 256
"""Bytes of a chunk's size with its extensions, which nobody uses and attackers fill."""

_match_chunk_line = re.compile(rb"([0-9A-Fa-f]{1,16}+)(?:;[\t -~\x80-\xff]*+)?\r\n").fullmatch
_match_trailers = re.compile(FIELD_LINES.encode()).fullmatch
_find_trailer_names = re.compile(rb"([^:\r\n]++):[^\n]*+\n").findall
FORBIDDEN_TRAILERS = frozenset(
    {
        b"authorization",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"cookie",
        b"host",
    }
    | {b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
"""What frames, routes or authorizes a message has to come before it (RFC 9110 section 6.5.1)."""


_TELLING = frozenset({"content-length", "transfer-encoding", "expect", "connection"})
_NOTHING_SAID = Framing(0, expects_continue=False, persists=True)
"""Of a head of HTTP/1.1 in which none of these fields is: of most."""


def framing_of(head: Head, limits: Limits) -> Framing:
    """How the body of this head is delimited, and what comes after it; worked out once. Raises Refusal."""
    framing = head.framing
    if framing is None:
        if head.minor and _TELLING.isdisjoint(head.fields):
            head.framing = _NOTHING_SAID
            return _NOTHING_SAID
        framing = head.framing = Framing(body_length(head, limits), expects_continue(head), client_persists(head))
    return framing


def body_length(head: Head, limits: Limits) -> int:
    """Bytes of the body that follows this head, or CHUNKED. Raises Refusal."""
    fields = head.fields
    length = fields.get("content-length")
    coding = fields.get("transfer-encoding")
    if coding is not None:
        if length is not None:
            raise bad_request("both Content-Length and Transfer-Encoding")
        if head.minor == 0:
            raise bad_request("Transfer-Encoding in HTTP/1.0")
        if coding.lower() != "chunked":
            raise bad_request("a transfer coding other than chunked")
        return CHUNKED
    if length is None:
        return 0
    if not (length.isascii() and length.isdigit()):
        raise bad_request("malformed Content-Length")
    if len(length) > 19 or int(length) > limits.body:
        raise too_large(limits)
    return int(length)


def too_large(limits: Limits) -> Refusal:
    """The refusal for a body above the limit."""
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"body above {limits.body} bytes")


def expects_continue(head: Head) -> bool:
    """Whether the client waits for `100 Continue` (RFC 9110 section 10.1.1). Raises Refusal for other expectations."""
    expectation = head.fields.get("expect")
    if expectation is None or head.minor == 0:
        return False
    if expectation.lower() != "100-continue":
        raise Refusal(HTTPStatus.EXPECTATION_FAILED, "only 100-continue can be expected")
    return True


def client_persists(head: Head) -> bool:
    """Whether the client will go on with this connection (RFC 9112 section 9.3)."""
    connection = head.fields.get("connection")
    if connection is None:
        return head.minor == 1
    options = [option.strip(" \t") for option in connection.lower().split(",")]
    if "close" in options:
        return False
    return head.minor == 1 or "keep-alive" in options


class _Part(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILERS = auto()


class ChunkDecoder:
    """Takes the chunks of one body apart, as strictly as the head and independent of how the bytes were split.

    `write` is given the data of the body as it comes.
    """

    def __init__(self, write: Callable[[bytes], None], limits: Limits) -> None:
        self._write = write
        self._limits = limits
        self._part = _Part.SIZE
        self._remaining = 0
        self._size = 0
        self._held = b""

    def feed(self, data: bytes) -> bytes | None:
        """Decode what was received. Returns what lies beyond the body once it is complete, None before.

        Raises Refusal.
        """
        data = self._held + data if self._held else data
        position = 0
        while True:
            if self._part is _Part.DATA:
                piece = data[position : position + self._remaining]
                self._write(piece)
                position += len(piece)
                self._remaining -= len(piece)
                if self._remaining:
                    break
                self._part = _Part.DATA_END
            elif self._part is _Part.DATA_END:
                if not data.startswith(b"\r\n", position):
                    if b"\r\n".startswith(data[position : position + 2]):
                        break
                    raise bad_request("chunk longer than its size")
                position += 2
                self._part = _Part.SIZE
            elif self._part is _Part.SIZE:
                end = self._chunk_line_end(data, position)
                if end == 0:
                    break
                self._start_chunk(data[position:end])
                position = end
            else:
                return self._trailers(data, position)
        self._held = data[position:]
        return None

    def _chunk_line_end(self, data: bytes, position: int) -> int:
        end = data.find(b"\n", position, position + CHUNK_LINE_LIMIT + 2) + 1
        if end == 0 and len(data) - position >= CHUNK_LINE_LIMIT + 2:
            raise bad_request(f"chunk line above {CHUNK_LINE_LIMIT} bytes")
        return end

    def _start_chunk(self, line: bytes) -> None:
        match = _match_chunk_line(line)
        if match is None:
            raise bad_request("malformed chunk size")
        self._remaining = int(match[1], 16)
        self._size += self._remaining
        if self._size > self._limits.body:
            raise too_large(self._limits)
        self._part = _Part.DATA if self._remaining else _Part.TRAILERS

    def _trailers(self, data: bytes, position: int) -> bytes | None:
        """Check the trailers and forget them: WSGI has no place for them (RFC 9110 section 6.5.1 allows it)."""
        # Without trailers the empty line follows at once; with them it follows the last one's CRLF.
        start = 0 if data.startswith(b"\r\n", position) else data.find(b"\r\n\r\n", position) + 2 - position
        if start == 1 - position:
            if len(data) - position > self._limits.headers:
                raise Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "trailers too long")
            self._held = data[position:]
            return None
        end = position + start
        if end + 2 - position > self._limits.headers:
            raise Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "trailers too long")
        lines = data[position:end]
        if _match_trailers(lines) is None:
            raise bad_request("malformed trailer")
        for name in _find_trailer_names(lines):
            if name.lower() in FORBIDDEN_TRAILERS:
                raise bad_request(f"{name.decode()} in the trailers")
        return data[end + 2 :]

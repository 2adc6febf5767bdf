"""Decides how a request's body is delimited (RFC 9112 sections 6 and 7) and whether the connection persists."""

import re
from collections.abc import Callable
from enum import Enum, auto
from http import HTTPStatus

from clusterd.http.messages.allowance import SMALL_BYTES, Allowance
from clusterd.http.messages.grammar import FIELD_LINES, TOKEN
from clusterd.http.messages.head import Framing, Head
from clusterd.http.messages.refusal import Refusal, above_limit, bad_request
from clusterd.http.settings import Limits

CHUNKED = -1
"""Used in place of a length for a chunked body."""

CHUNK_LINE_LIMIT = 256
"""Maximum bytes of a chunk's size with its extensions. Extensions are practically unused, but attackers fill them."""

_QUOTED = r'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
_EXTENSION = rf";[ \t]*+{TOKEN}[ \t]*+(?:=[ \t]*+(?:{TOKEN}|{_QUOTED})[ \t]*+)?+"
# RFC 9112 section 7.1.1, but without its space before the first ";": `5 x` has been used to smuggle requests.
_match_chunk_line = re.compile(rf"([0-9A-Fa-f]{{1,16}}+)(?:{_EXTENSION})*+\r\n".encode("latin-1")).fullmatch
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
"""Fields that frame, route or authorize a message must come before its body (RFC 9110 section 6.5.1)."""

_REFUSED_TRAILERS = FORBIDDEN_TRAILERS - {b"content-type", b"cookie"}
"""All trailers of a request are dropped. Who sends one of these may want to be understood in two ways."""


TURN_CHUNKS = 64
"""Maximum chunks that are decoded before other connections have their turn."""

_TELLING = frozenset({"content-length", "transfer-encoding", "expect", "connection"})
_NOTHING_SAID = Framing(0, expects_continue=False, persists=True)
"""The framing of a head of HTTP/1.1 without any of these fields, which is the most common case."""


def framing_of(head: Head, limits: Limits) -> Framing:
    """Return the framing of this head, computed once for each head. Raises Refusal."""
    framing = head.framing
    if framing is None:
        if head.minor and _TELLING.isdisjoint(head.fields):
            head.framing = _NOTHING_SAID
            return _NOTHING_SAID
        framing = head.framing = Framing(body_length(head, limits), expects_continue(head), client_persists(head))
    return framing


def body_length(head: Head, limits: Limits) -> int:
    """Return the bytes of the body that follows this head, or CHUNKED. Raises Refusal."""
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
    """Return the refusal (413) for a body above the limit."""
    return above_limit(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"body above {limits.body} bytes")


def expects_continue(head: Head) -> bool:
    """Whether the client waits for `100 Continue` (RFC 9110 section 10.1.1). Raises Refusal for other expectations."""
    expectation = head.fields.get("expect")
    if expectation is None or head.minor == 0:
        return False
    members = {member.strip(" \t") for member in expectation.lower().split(",")} - {""}
    if members - {"100-continue"}:
        raise bad_request("only 100-continue can be expected", HTTPStatus.EXPECTATION_FAILED)
    return bool(members)


def client_persists(head: Head) -> bool:
    """Whether the client wants to keep this connection open (RFC 9112 section 9.3)."""
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
    """Decodes the chunks of one body. As strict as the head parser, and independent of how the bytes were split.

    Passes the data of the body to `write` as it arrives. After TURN_CHUNKS it pauses, although there is more to decode.
    """

    def __init__(self, write: Callable[[bytes], None], limits: Limits) -> None:
        self._write = write
        self._limits = limits
        self._part = _Part.SIZE
        self._remaining = 0
        self._size = 0
        self._held = b""
        self._small = 0
        """Small chunks that are not accounted for yet."""
        self._allowance: Allowance | None = None
        self.is_paused = False
        """Whether `feed` must be called again to decode what it has, also without more data."""

    def feed(self, data: bytes) -> bytes | None:
        """Decode received bytes. Returns the bytes beyond the body once it is complete, None before. Raises Refusal."""
        data = self._held + data if self._held else data
        position = 0
        left = TURN_CHUNKS
        self.is_paused = False
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
                left -= 1
                if left < 0:
                    self.is_paused = True
                    break
                self._start_chunk(data[position:end])
                position = end
            else:
                return self._trailers(data, position)
        self._held = data[position:]
        self._account()
        return None

    def _account(self) -> None:
        """Refuse a body of small chunks that come too fast."""
        if self._small:
            if self._allowance is None:
                self._allowance = Allowance()
            if not self._allowance.spend(self._small):
                raise bad_request("too many small chunks")
            self._small = 0

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
        if self._remaining < SMALL_BYTES:
            self._small += 1
        if self._size > self._limits.body:
            raise too_large(self._limits)
        self._part = _Part.DATA if self._remaining else _Part.TRAILERS

    def _trailers(self, data: bytes, position: int) -> bytes | None:
        """Check the trailers and discard them, as RFC 9110 section 6.5.1 allows: WSGI has no place for them."""
        # Without trailers the empty line follows at once. With trailers it follows the CRLF of the last one.
        start = 0 if data.startswith(b"\r\n", position) else data.find(b"\r\n\r\n", position) + 2 - position
        if start == 1 - position:
            if len(data) - position > self._limits.headers:
                raise above_limit(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "trailers too long")
            self._held = data[position:]
            return None
        end = position + start
        if end + 2 - position > self._limits.headers:
            raise above_limit(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "trailers too long")
        lines = data[position:end]
        if _match_trailers(lines) is None:
            raise bad_request("malformed trailer")
        for name in _find_trailer_names(lines):
            if name.lower() in _REFUSED_TRAILERS:
                raise bad_request(f"{name.decode()} in the trailers")
        return data[end + 2 :]

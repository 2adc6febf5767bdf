"""Encodes responses: checks what the application sends, and adds the framing."""

import re
from collections.abc import Callable, Iterable
from enum import Enum, auto
from http import HTTPStatus
from time import time as wall_clock

from clusterd.http.messages.framing import FORBIDDEN_TRAILERS
from clusterd.http.messages.given import FIELDS_ALLOWED, byte_field, items, octets, text_field
from clusterd.http.messages.grammar import FIELD_LINE, FIELD_VALUE
from clusterd.http.messages.head import Head
from clusterd.http.messages.memory import Memory
from clusterd.http.messages.refusal import Refusal
from clusterd.http_date import http_date

_match_status = re.compile(rf"[1-9][0-9][0-9] {FIELD_VALUE}").fullmatch
_match_field_line = re.compile(FIELD_LINE).fullmatch

_SPECIAL = frozenset(
    {"connection", "content-length", "date", "server"}
    | {
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    }
)
_NO_BODY = frozenset({204, 304})
_UPGRADE_REQUIRED = 426
"""Its Upgrade field names the protocol that the client must use (RFC 9110 section 15.5.22)."""


class Stamp:
    """The fields that the server adds to every response: `Date`, and `Server` if set. Updated at most once a second."""

    __slots__ = ("_second", "date", "fields", "server")

    def __init__(self, names_server: bool = True) -> None:
        self.server = b"Server: clusterd\r\n" if names_server else b""
        self._second = -1
        self.refresh()

    def refresh(self) -> None:
        """Update the date (RFC 9110 section 6.6.1)."""
        second = int(wall_clock())
        if second != self._second:
            self._second = second
            self.date = f"Date: {http_date(second)}\r\n".encode()
            self.fields = self.server + self.date

    def beside(self, own: set[str]) -> bytes:
        """Return the fields that the server adds to a response in which the application has set those in `own`."""
        return (b"" if "server" in own else self.server) + (b"" if "date" in own else self.date)


class _Status:
    """A checked status line."""

    __slots__ = ("code", "has_body", "line")

    def __init__(self, text: str) -> None:
        if _match_status(text) is None:
            raise ValueError(f"malformed status {text!r}")
        self.code = int(text[:3])
        if self.code < 200:
            raise ValueError(f"{text!r} is no final response")
        self.line = f"HTTP/1.1 {text}\r\n".encode("latin-1")
        self.has_body = self.code not in _NO_BODY


# Caches. Applications repeat themselves: most responses have the status and the header lines of an earlier one.
_statuses: Memory[str | int, _Status] = Memory(256)
_LONGEST_REMEMBERED = 256


Line = bytes | int
"""An encoded header line, or the value of a Content-Length."""


class FieldKind:
    """How an interface gives header fields. `pair` checks one, and makes a pair of it."""

    __slots__ = ("lines", "pair")

    def __init__(self, pair: Callable[[object, str], tuple[str, str] | tuple[bytes, bytes]]) -> None:
        self.pair = pair
        self.lines: Memory[object, Line] = Memory(1024)
        """The lines of earlier fields. Each kind has its own, so that none takes what another has checked."""


TEXT_FIELDS = FieldKind(text_field)
BYTE_FIELDS = FieldKind(byte_field)


class ResponseHead:
    """The checked status and header fields of a response: text from WSGI, a number and bytes from ASGI.

    `where` names the fields in error messages. Raises ValueError for control characters (which could inject a header),
    text outside ISO-8859-1, and a malformed status or Content-Length. Raises TypeError for what is not an iterable of
    pairs.
    """

    __slots__ = ("content_length", "fields", "has_body", "own", "status", "status_line", "wants_close")

    def __init__(self, status: str | int, headers: object, kind: FieldKind, where: str) -> None:
        known = _statuses.get(status)
        if known is None:
            known = _Status(status if isinstance(status, str) else _status_text(status))
            _statuses.remember(status, known)
        self.status = known.code
        self.status_line = known.line
        self.has_body = known.has_body
        self.content_length: int | None = None
        self.wants_close = False
        self.own: set[str] | None = None
        lines = []
        known_lines = kind.lines
        given = headers if isinstance(headers, list) else list(items(headers, where, FIELDS_ALLOWED))
        for header in given:
            try:
                line = known_lines.get(header)
            except TypeError:  # The header is a list, for example, and not a tuple.
                line = None
            if line is None:
                line = self._line(kind, *kind.pair(header, where))
            if isinstance(line, bytes):
                lines.append(line)
            elif self.content_length is None:
                self.content_length = line  # The Encoder adds it at its place.
            elif self.content_length != line:
                raise ValueError("two different Content-Lengths")
        self.fields = b"".join(lines)

    def _line(self, kind: FieldKind, name: str | bytes, value: str | bytes) -> Line:
        """Return the encoded header line, which is empty if the field is not sent; or the value of Content-Length."""
        header = (name, value)
        if isinstance(name, bytes):
            name = name.decode("latin-1")
        if isinstance(value, bytes):
            value = value.decode("latin-1")
        lower = name.lower()
        line: Line = b""
        if lower == "content-length":
            line = _content_length(value)
        elif lower not in _SPECIAL or self._keep(lower, value):
            line = field_line(name, value)
        if len(value) < _LONGEST_REMEMBERED and (lower == "content-length" or lower not in _SPECIAL):
            kind.lines.remember(header, line)
        return line

    def _keep(self, name: str, value: str) -> bool:
        """Process a field that concerns the server. Returns whether it is sent as the application set it."""
        if name == "connection":
            self.wants_close = self.wants_close or "close" in value.lower()
        # The application's own Date and Server take precedence. Hop-by-hop fields belong to the server (PEP 3333). They
        # are dropped and not refused, as in gunicorn, because applications copy them from responses they relay.
        if name not in ("date", "server") and not (name == "upgrade" and self.status == _UPGRADE_REQUIRED):
            return False
        self.own = (self.own or set()) | {name}
        return True


def _status_text(code: int) -> str:
    try:
        return f"{code} {HTTPStatus(code).phrase}"
    except ValueError:
        return f"{code} "  # The reason may be empty (RFC 9112 section 4).


def _content_length(value: str) -> int:
    if not (value.isascii() and value.isdigit()) or len(value) > 19:
        raise ValueError(f"malformed Content-Length {value!r}")
    return int(value)


def field_line(name: str, value: str) -> bytes:
    """Encode a header field. Raises ValueError if it is malformed, TypeError if it is not text."""
    line = name + ": " + value + "\r\n"  # Not an f-string: a value that is not a str must raise TypeError.
    if _match_field_line(line) is None or ":" in name:
        raise ValueError(f"malformed header {name!r}: {value!r}")
    return line.encode("latin-1")


def plain_response(request: Head, head: ResponseHead, stamp: Stamp, body: bytes, *, persistent: bool) -> bytes | None:
    """Encode a common response: the body is complete and matches the application's Content-Length, if there is one.

    Returns None for any other response. The Encoder handles all, with the same result for this one, but is slower.
    """
    length = len(body)
    if (
        (head.content_length is not None and head.content_length != length)
        or head.own is not None
        or head.wants_close
        or not head.has_body
        or (persistent and not request.minor)  # HTTP/1.0 needs `Connection: keep-alive`.
        or request.method == "HEAD"
    ):
        return None
    tail = b"\r\n" if persistent else b"Connection: close\r\n\r\n"
    return b"%b%b%bContent-Length: %d\r\n%b%b" % (head.status_line, stamp.fields, head.fields, length, tail, body)


class Delimited(Enum):
    """How the client learns where the body ends (RFC 9112 section 6.3)."""

    NO_BODY = auto()
    LENGTH = auto()
    CHUNKED = auto()
    CLOSE = auto()


class Encoder:
    """Encodes one response: call `whole`, or `start`, any number of `more`, and `end`.

    Afterwards `persistent` tells whether the connection can be used again. Bytes beyond the Content-Length are cut off,
    so that they never become part of the next response. `excess` counts them.
    """

    __slots__ = ("_delimited", "_is_head", "_left", "_minor", "excess", "persistent", "trailers")

    def __init__(self, request: Head, persistent: bool) -> None:
        self._is_head = request.method == "HEAD"
        self._minor = request.minor
        self._delimited = Delimited.NO_BODY
        self._left = 0
        self.persistent = persistent
        self.excess = 0
        self.trailers = b""
        """Encoded field lines to send after a chunked body."""

    def whole(self, head: ResponseHead, stamp: Stamp, body: bytes) -> bytes:
        """Encode a response with a complete body. It is always delimited by its length."""
        # An empty body for a HEAD request does not tell the length that a GET would have.
        if head.content_length is None and head.has_body and (body or not self._is_head):
            head.content_length = len(body)
        return self.start(head, stamp, body) + self.end()

    def start(self, head: ResponseHead, stamp: Stamp, body: bytes = b"") -> bytes:
        """Encode the head and the beginning of the body."""
        framing = self._delimit(head)
        self.persistent = self.persistent and not head.wants_close
        if self.persistent:
            connection = "" if self._minor else "Connection: keep-alive\r\n"
        else:
            connection = "Connection: close\r\n"
        if head.status == _UPGRADE_REQUIRED:
            connection = "Connection: upgrade\r\n" if self.persistent else "Connection: upgrade, close\r\n"
        tail = f"{framing}{connection}\r\n"
        stamped = stamp.fields if head.own is None else stamp.beside(head.own)
        return b"".join((head.status_line, stamped, head.fields, tail.encode(), self.more(body)))

    def _delimit(self, head: ResponseHead) -> str:
        length = head.content_length
        if not head.has_body:
            # A 304 may have the Content-Length of the full response, a 204 must not have one (RFC 9110 section 8.6).
            return f"Content-Length: {length}\r\n" if length is not None and head.status == 304 else ""
        if length is not None:
            if not self._is_head:
                self._delimited = Delimited.LENGTH
                self._left = length
            return f"Content-Length: {length}\r\n"
        if self._minor:
            if not self._is_head:
                self._delimited = Delimited.CHUNKED
            return "Transfer-Encoding: chunked\r\n"
        if not self._is_head:
            self._delimited = Delimited.CLOSE
            self.persistent = False
        return ""

    def more(self, data: bytes) -> bytes:
        """Encode a piece of the body."""
        if not data or self._delimited is Delimited.NO_BODY:
            return b""
        if self._delimited is Delimited.LENGTH:
            if len(data) > self._left:
                self.excess += len(data) - self._left
                data = data[: self._left]
            self._left -= len(data)
            return data
        if self._delimited is Delimited.CHUNKED:
            return b"%x\r\n%b\r\n" % (len(data), data)
        return data

    def sent_beside(self, size: int) -> None:
        """Account for `size` bytes of a body with a length that were sent without `more`."""
        self._left -= size

    @property
    def satisfied(self) -> bool:
        """Whether the rest of the body is not needed. A generator that gave exactly enough still runs to its end."""
        return self._delimited is Delimited.NO_BODY or self.excess > 0

    @property
    def missing(self) -> int:
        """Bytes that Content-Length promised and that were not sent. At the end, only a close can tell the client."""
        return self._left

    def end(self) -> bytes:
        """Encode the end of the body. If the body is shorter than its length, the connection cannot be used again."""
        if self._left:
            self.persistent = False
        return b"0\r\n%b\r\n" % self.trailers if self._delimited is Delimited.CHUNKED else b""


def accepts_trailers(request: Head) -> bool:
    """Whether the client understands trailers (RFC 9110 section 10.1.4)."""
    members = request.fields.get("te", "").lower().split(",")
    return any(member.partition(";")[0].strip(" \t") == "trailers" for member in members)


def trailer_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Encode trailers. Leaves out fields that must come before the body (RFC 9110 section 6.5.1). Raises ValueError."""
    return b"".join(
        field_line(name.decode("latin-1"), value.decode("latin-1"))
        for name, value in headers
        if name.lower() not in FORBIDDEN_TRAILERS
    )


def early_hints(links: object, where: str) -> bytes:
    """Encode an interim response 103 with the links of the final response (RFC 8297). Raises ValueError, TypeError."""
    given = [octets(link, where) for link in items(links, where, "an iterable of bytes")]
    lines = b"".join(field_line("Link", link.decode("latin-1")) for link in given)
    return b"HTTP/1.1 103 Early Hints\r\n%b\r\n" % lines


def refusal_response(refusal: Refusal) -> tuple[ResponseHead, bytes]:
    """Return the head and the body, in plain text, of the response to a refused request."""
    headers = [("Content-Type", "text/plain; charset=utf-8"), *refusal.headers]
    if refusal.status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append(("Retry-After", "1"))
    status = f"{refusal.status.value} {refusal.status.phrase}"
    return ResponseHead(status, headers, TEXT_FIELDS, "a refusal"), f"{status}: {refusal.reason}\n".encode()

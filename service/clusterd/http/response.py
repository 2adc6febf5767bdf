"""The bytes of a response: what the application says, checked, and the framing that the server adds."""

import re
from collections.abc import Sequence
from email.utils import formatdate
from enum import Enum, auto
from http import HTTPStatus
from time import time as wall_clock

from clusterd.http.grammar import FIELD_LINES, FIELD_VALUE
from clusterd.http.head import Head
from clusterd.http.refusal import Refusal

_match_status = re.compile(rf"[1-9][0-9][0-9] {FIELD_VALUE}").fullmatch
_match_field_lines = re.compile(FIELD_LINES).fullmatch

_SPECIAL = frozenset(
    {"connection", "content-length", "date", "server"}
    | {
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_NO_BODY = frozenset({204, 304})


class Stamp:
    """The fields that the server adds to every response, `Server` and `Date`, made once a second at most."""

    __slots__ = ("_second", "date", "fields", "server")

    def __init__(self) -> None:
        self.server = b"Server: clusterd\r\n"
        self._second = -1
        self.refresh()

    def refresh(self) -> None:
        """Bring the date up to now (RFC 9110 section 6.6.1)."""
        second = int(wall_clock())
        if second != self._second:
            self._second = second
            self.date = f"Date: {formatdate(second, usegmt=True)}\r\n".encode()
            self.fields = self.server + self.date

    def beside(self, own: set[str]) -> bytes:
        """The fields for a response in which the application says some itself."""
        return (b"" if "server" in own else self.server) + (b"" if "date" in own else self.date)


class ResponseHead:
    """A status line and header fields from the application, checked.

    Raises ValueError for what can not be sent (control characters, so that no header can be injected; text
    outside ISO-8859-1; a malformed status or Content-Length), TypeError for what is not text.
    """

    __slots__ = ("content_length", "fields", "has_body", "own", "status", "status_line", "wants_close")

    def __init__(self, status: str, headers: Sequence[tuple[str, str]]) -> None:
        if _match_status(status) is None:
            raise ValueError(f"malformed status {status!r}")
        self.status = int(status[:3])
        if self.status < 200:
            raise ValueError(f"{status!r} is no final response")
        self.status_line = f"HTTP/1.1 {status}\r\n".encode("latin-1")
        self.has_body = self.status not in _NO_BODY
        self.content_length: int | None = None
        self.wants_close = False
        self.own: set[str] | None = None
        lines = ""
        count = 0
        for name, value in headers:
            lower = name.lower()
            if ":" in lower:  # would end the name early, and get past the fields that concern the server
                raise ValueError(f"malformed header {name!r}: {value!r}")
            if lower in _SPECIAL and not self._keep(lower, value):
                continue
            lines += name + ": " + value + "\r\n"  # not an f-string: what is not str must raise
            count += 1
        # The grammar sees whole lines; the count notices a value that brought lines of its own.
        if _match_field_lines(lines) is None or lines.count("\n") != count:
            raise ValueError(_describe_fault(headers))
        self.fields = lines.encode("latin-1")

    def _keep(self, name: str, value: str) -> bool:
        """Take note of a field that concerns the server. Returns whether it is sent as the application gave it."""
        if name == "content-length":
            if not (value.isascii() and value.isdigit()) or len(value) > 19:
                raise ValueError(f"malformed Content-Length {value!r}")
            if self.content_length not in (None, int(value)):
                raise ValueError("two different Content-Lengths")
            self.content_length = int(value)
            return False  # the server adds it, where it belongs
        if name == "connection":
            self.wants_close = self.wants_close or "close" in value.lower()
        # The application's own Date and Server win; hop-by-hop fields are this hop's affair (PEP 3333), and
        # dropped rather than refused, as gunicorn does: applications copy them from responses they relay.
        if name not in ("date", "server"):
            return False
        self.own = (self.own or set()) | {name}
        return True


def _describe_fault(headers: Sequence[tuple[str, str]]) -> str:
    for name, value in headers:
        line = name + ": " + value + "\r\n"
        if _match_field_lines(line) is None or line.count("\n") != 1:
            return f"malformed header {name!r}: {value!r}"
    return "malformed headers"


class Delimited(Enum):
    """How the client learns where the body ends (RFC 9112 section 6.3)."""

    NO_BODY = auto()
    LENGTH = auto()
    CHUNKED = auto()
    CLOSE = auto()


class Encoder:
    """Frames one response: `whole`, or `start`, any number of `more`, and `end`.

    `persistent` tells afterwards whether the connection can be used again. What an application sends beyond
    its Content-Length is cut off, so that it never becomes part of the next response; `excess` counts it.
    """

    __slots__ = ("_delimited", "_is_head", "_left", "_minor", "excess", "persistent")

    def __init__(self, request: Head, persistent: bool) -> None:
        self._is_head = request.method == "HEAD"
        self._minor = request.minor
        self._delimited = Delimited.NO_BODY
        self._left = 0
        self.persistent = persistent
        self.excess = 0

    def whole(self, head: ResponseHead, stamp: Stamp, body: bytes) -> bytes:
        """The response whose body is all known: always delimited by its length."""
        # An empty body of a HEAD says nothing about the length that GET would have.
        if head.content_length is None and head.has_body and (body or not self._is_head):
            head.content_length = len(body)
        return self.start(head, stamp, body) + self.end()

    def start(self, head: ResponseHead, stamp: Stamp, body: bytes = b"") -> bytes:
        """The head and the beginning of the body."""
        framing = self._delimit(head)
        if self.persistent and not head.wants_close:
            connection = "" if self._minor else "Connection: keep-alive\r\n"
        else:
            self.persistent = False
            connection = "Connection: close\r\n"
        tail = f"{framing}{connection}\r\n"
        stamped = stamp.fields if head.own is None else stamp.beside(head.own)
        return b"".join((head.status_line, stamped, head.fields, tail.encode(), self.more(body)))

    def _delimit(self, head: ResponseHead) -> str:
        length = head.content_length
        if not head.has_body:
            # 304 may tell the length of what it stands for, 204 must not (RFC 9110 section 8.6).
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
        """A piece of the body as it goes over the wire."""
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

    @property
    def satisfied(self) -> bool:
        """Whether the rest of the body is not wanted. A generator that gave just enough goes on: it may do more."""
        return self._delimited is Delimited.NO_BODY or self.excess > 0

    @property
    def missing(self) -> int:
        """Bytes promised by Content-Length and not sent: at the end, only closing can tell the client."""
        return self._left

    def end(self) -> bytes:
        """What delimits the end. A body that fell short of its length takes the connection with it."""
        if self._left:
            self.persistent = False
        return b"0\r\n\r\n" if self._delimited is Delimited.CHUNKED else b""


def refusal_response(refusal: Refusal) -> tuple[ResponseHead, bytes]:
    """The response to a refused request, in plain text."""
    headers = [("Content-Type", "text/plain; charset=utf-8")]
    if refusal.status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append(("Retry-After", "1"))
    status = f"{refusal.status.value} {refusal.status.phrase}"
    return ResponseHead(status, headers), f"{status}: {refusal.reason}\n".encode()

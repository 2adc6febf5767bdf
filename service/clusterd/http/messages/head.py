"""The head of a request: found in the bytes, measured, checked and parsed.

One strict grammar decides, and nothing depends on how the bytes were split on their way. No llhttp or
http-parser underneath: both accept some of what is refused here, each something else (bare LF, `5 x` as a
chunk size), so the bytes would have to be checked first all the same; and once they are, taking them apart
is the smaller half of the work (measured: 10.5 us for a browser's head, 15.5 us with httptools after it).
"""

import re
from http import HTTPStatus
from typing import NamedTuple

from clusterd.http.messages.forwarded_fields import ForwardedFields
from clusterd.http.messages.grammar import FIELD_VALUE, TOKEN
from clusterd.http.messages.memory import Memory
from clusterd.http.messages.refusal import Refusal, bad_request
from clusterd.http.settings import Limits

_match_request_line = re.compile(rf"({TOKEN}) ([!-~\x80-\xff]++) HTTP/([0-9])\.([0-9])\r\n").match
# No space before the colon, no obs-fold, no bare CR or LF: each has been used to smuggle requests.
_match_field_line = re.compile(rf"({TOKEN}):[ \t]*+({FIELD_VALUE})").fullmatch
_match_host = re.compile(
    r"(?:\[[0-9A-Fa-f:.]++\]|[A-Za-z0-9\-._~%!$&'()*+,;=]*+)(?::[0-9]*+)?"  # RFC 3986 section 3.2, no userinfo
).fullmatch
_match_absolute = re.compile(r"(?i:https?)://([^/?:][^/?]*+)(.*)").fullmatch

REMEMBERED = 512
LONGEST_REMEMBERED = 4096
"""Bytes of a head that is remembered. With what is made of them, a client that never repeats itself fills 31 MB
(measured: 99 fields in each)."""

REMEMBERED_LINES = 2048
LONGEST_REMEMBERED_LINE = 512
LONGEST_REMEMBERED_NAME = 64

_CGI_NAMES = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}
"""Without the HTTP_ that all others have (RFC 3875 section 4.1)."""

_ONCE = frozenset({"host", "content-length"})
"""Fields that must not be repeated, whatever their values: others along the way may choose another one."""


class _Names(NamedTuple):
    """A header's name as each interface wants it."""

    lower: str
    cgi: str
    raw: bytes


_names: Memory[str, _Names] = Memory(REMEMBERED)


def _names_of(name: str) -> _Names:
    lower = name.lower()
    cgi = "" if "_" in lower else _CGI_NAMES.get(lower) or f"HTTP_{lower.upper().replace('-', '_')}"
    names = _Names(lower, cgi, lower.encode("latin-1"))
    if len(name) <= LONGEST_REMEMBERED_NAME:
        _names.remember(name, names)
    return names


class FieldLine:
    """A header line, checked, and what the interfaces make of it: worked out once for all requests that bring it."""

    __slots__ = ("cgi_name", "name", "raw", "value")

    def __init__(self, name: str, value: str) -> None:
        self.name, self.cgi_name, raw = _names.get(name) or _names_of(name)
        # `cgi_name` is empty for a name with an underscore, which could pass itself off as one with a hyphen: both
        # interfaces leave it out, since frameworks name both alike (Django's META, say).
        self.value = value = value.rstrip(" \t")
        self.raw = (raw, value.encode("latin-1"))


class Fields(dict[str, str]):
    """Header fields by lower-case name; repeated ones joined in their order (RFC 9110 section 5.3).

    Shared by all requests that bring the same lines, so never changed; `environ` and `raw` are what the adapters
    have made of them, and `told` what they say of their origin if the peer is trusted, to be used again.
    """

    __slots__ = ("environ", "lines", "raw", "told")

    def __init__(self, values: dict[str, str], lines: list[FieldLine]) -> None:
        super().__init__(values)
        self.lines = lines
        """In the order in which they were sent."""
        self.environ: dict[str, str] | None = None
        self.raw: list[tuple[bytes, bytes]] | None = None
        self.told: ForwardedFields | None = None


class Framing(NamedTuple):
    """What a head says of its body, and of what comes after it."""

    length: int
    """Bytes of the body, or CHUNKED."""
    expects_continue: bool
    persists: bool
    """Whether the client will go on with the connection."""


class Head:
    """A request's head. Text is ISO-8859-1, one character for each byte that was sent.

    Shared by all requests that are the same to the byte, so never changed; `framing` is worked out once for them.
    """

    __slots__ = ("fields", "framing", "method", "minor", "path", "query", "target", "upgrades")

    def __init__(self, method: str, target: str, minor: int, fields: Fields) -> None:
        self.method = method
        self.target = target
        """As sent."""
        self.minor = minor
        """Of the version: 0 or 1."""
        self.fields = fields
        self.upgrades = "upgrade" in fields
        """Whether it names another protocol to go on with, which is asked of every request."""
        self.framing: Framing | None = None
        """None until it was looked at: a request whose framing is refused has a head all the same."""
        self.path, _, self.query = target.partition("?")


_match_empty_lines = re.compile(rb"(?:\r\n)++").match


def skip_empty_lines(received: bytes | bytearray) -> int:
    """The index after the empty lines at the beginning."""
    match = _match_empty_lines(received)
    return match.end() if match else 0


def find_end(received: bytes | bytearray, limits: Limits) -> int:
    """The index after the empty line that ends the head, or 0 while that has not come.

    Raises Refusal as soon as the line or the fields are too long, or the request line is none.
    """
    end = received.find(b"\r\n\r\n") + 4
    line_end = received.find(b"\n", 0, limits.request_line + 2) + 1
    if line_end == 0:
        if len(received) >= limits.request_line + 2:
            raise Refusal(HTTPStatus.REQUEST_URI_TOO_LONG, f"request line above {limits.request_line} bytes")
        return 0
    if end == 3:
        # While waiting for more, what is certainly wrong is refused at once: a client that ends its lines
        # with a bare LF, or speaks TLS, should not have to wait for the timeout to learn it.
        _parse_request_line(received[:line_end].decode("latin-1"))
        end = 0
    if (end or len(received)) - line_end > limits.headers:
        _parse_request_line(received[:line_end].decode("latin-1"))  # the first thing wrong is what is answered
        raise Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"header fields above {limits.headers} bytes")
    return end


class HeadParser:
    """Parses heads, and remembers those it has seen.

    Clients repeat themselves: most requests bring the header lines of the one before, all but one or two of them if
    not all, and many are the same to the byte. What is remembered was checked as a whole, and is compared as a whole.
    """

    __slots__ = ("_blocks", "_heads", "_limits", "_lines")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._heads: Memory[bytes, Head] = Memory(REMEMBERED)
        self._blocks: Memory[bytes, Fields] = Memory(REMEMBERED)
        self._lines: Memory[bytes, FieldLine] = Memory(REMEMBERED_LINES)

    def parse(self, received: bytes) -> Head:
        """A whole head, its empty line included. Raises Refusal."""
        return self._heads.get(received) or self._parse(received)

    def _parse(self, received: bytes) -> Head:
        line_end = received.index(b"\n") + 1
        method, target, minor = _parse_request_line(received[:line_end].decode("latin-1"))
        block = received[line_end:]
        known = self._blocks.get(block)
        fields = known or self._parse_fields(block)
        if minor == 1 and "host" not in fields:
            raise bad_request("no Host")
        if method == "CONNECT":
            # Whatever the target: what follows a 2xx to it is no HTTP for whoever stands between (RFC 9110, 9.3.6).
            raise Refusal(HTTPStatus.NOT_IMPLEMENTED, "CONNECT is not supported")
        if target[0] == "/":
            head = Head(method, target, minor, fields)
        else:
            head = _parse_other_target(method, target, minor, fields)
        if len(received) <= LONGEST_REMEMBERED:
            if known is None:
                self._blocks.remember(block, fields)
            else:
                # Not the first time: lines that never come again are not remembered twice.
                self._heads.remember(received, head)
        return head

    def _parse_fields(self, block: bytes) -> Fields:
        """Header lines up to the empty one after them, by which they are known to end."""
        known = self._lines.get
        lines = [known(text) or self._parse_line(text) for text in block[:-4].split(b"\r\n")] if len(block) > 2 else []
        if len(lines) > self._limits.header_count:
            reason = f"more than {self._limits.header_count} header fields"
            raise Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason)
        values = {line.name: line.value for line in lines}
        return Fields(values if len(values) == len(lines) else _joined(lines), lines)

    def _parse_line(self, text: bytes) -> FieldLine:
        match = _match_field_line(text.decode("latin-1"))
        if match is None:
            raise bad_request("malformed header field")
        line = FieldLine(*match.groups())
        if line.name == "host" and _match_host(line.value) is None:
            raise bad_request("malformed Host")
        if len(text) <= LONGEST_REMEMBERED_LINE:
            self._lines.remember(text, line)
        return line


def _parse_request_line(text: str) -> tuple[str, str, int]:
    match = _match_request_line(text)
    if match is None:
        raise bad_request("malformed request line")
    method, target, major, minor = match.groups()
    if major != "1" or minor not in "01":
        raise Refusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "this server speaks HTTP/1.1 and HTTP/1.0")
    if "#" in target:
        raise bad_request("fragment in the request target")
    return method, target, int(minor)


def _parse_other_target(method: str, target: str, minor: int, fields: Fields) -> Head:
    """Asterisk-form and absolute-form (RFC 9112 section 3.2)."""
    if target == "*":
        if method != "OPTIONS":
            raise bad_request("asterisk-form outside OPTIONS")
        return Head(method, target, minor, fields)
    match = _match_absolute(target)
    if match is None:
        raise bad_request("malformed request target")
    authority, rest = match.groups()
    if _match_host(authority) is None:
        raise bad_request("malformed authority in the request target")
    # Section 3.2.2: it replaces what Host says.
    lines = [FieldLine("host", authority), *(line for line in fields.lines if line.name != "host")]
    fields = Fields({**fields, "host": authority}, lines)
    head = Head(method, rest if rest.startswith("/") else f"/{rest}", minor, fields)
    head.target = target
    return head


def _joined(lines: list[FieldLine]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in lines:
        if line.name not in fields:
            fields[line.name] = line.value
        elif line.name in _ONCE:
            raise bad_request(f"repeated {line.name}")
        else:
            separator = "; " if line.name == "cookie" else ", "  # RFC 6265 section 5.4
            fields[line.name] += f"{separator}{line.value}"
    return fields

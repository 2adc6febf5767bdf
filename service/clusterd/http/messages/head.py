"""Finds, checks and parses the head of a request.

One strict grammar decides, and the result does not depend on how the bytes were split. llhttp and http-parser were
rejected: both accept some input that is refused here (bare LF, `5 x` as a chunk size), so the bytes would still have to
be checked first. After the check, parsing is the smaller half of the work (measured: 10.5 us for a browser's head,
15.5 us with httptools after the check).
"""

import re
from http import HTTPStatus
from typing import NamedTuple

from clusterd.http.messages.forwarded_fields import ForwardedFields
from clusterd.http.messages.grammar import FIELD_VALUE, TOKEN
from clusterd.http.messages.memory import Memory
from clusterd.http.messages.refusal import above_limit, bad_request
from clusterd.http.settings import Limits, Underscores

_match_request_line = re.compile(rf"({TOKEN}) ([!-~]++) HTTP/([0-9])\.([0-9])\r\n").match
# Allows no space before the colon, no obs-fold and no bare CR or LF: each has been used to smuggle requests.
_match_field_line = re.compile(rf"({TOKEN}):[ \t]*+({FIELD_VALUE})").fullmatch
_match_host = re.compile(
    # RFC 3986 section 3.2, no userinfo: an IPv6 address, a later one, or a name; then a port.
    r"(?:\[(?:[0-9A-Fa-f:.]++|[vV][0-9A-Fa-f]++\.[A-Za-z0-9\-._~!$&'()*+,;=:]++)\]|[A-Za-z0-9\-._~%!$&'()*+,;=]*+)"
    r"(?::[0-9]*+)?"
).fullmatch
_match_absolute = re.compile(r"(?i:https?)://([^/?:][^/?]*+)(.*)").fullmatch

REMEMBERED = 512
LONGEST_REMEMBERED = 4096
"""Maximum bytes of a head that is cached. A client that never repeats itself fills the caches with 31 MB, parsed heads
included (measured with 99 fields in each head)."""

REMEMBERED_LINES = 2048
LONGEST_REMEMBERED_LINE = 512
LONGEST_REMEMBERED_NAME = 64

_CGI_NAMES = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}
"""Names without the prefix HTTP_ that all other fields have (RFC 3875 section 4.1)."""

_ONCE = frozenset({"host", "content-length", "content-type"})
"""Fields that must not be repeated, even with equal values: a proxy on the way may use another one than we do."""


class _Names(NamedTuple):
    """The name of a header field in the form of each interface."""

    lower: str
    cgi: str
    raw: bytes


_names: Memory[str, _Names] = Memory(REMEMBERED)


def _names_of(name: str) -> _Names:
    lower = name.lower()
    cgi = "" if "_" in lower else _CGI_NAMES.get(lower) or _cgi_name(lower)
    names = _Names(lower, cgi, lower.encode("latin-1"))
    if len(name) <= LONGEST_REMEMBERED_NAME:
        _names.remember(name, names)
    return names


def _cgi_name(lower: str) -> str:
    return f"HTTP_{lower.upper().replace('-', '_')}"


class FieldLine:
    """A checked header line in the forms of the interfaces. Computed once for all requests that have this line."""

    __slots__ = ("cgi_name", "name", "raw", "value")

    def __init__(self, name: str, value: str) -> None:
        self.name, self.cgi_name, raw = _names.get(name) or _names_of(name)
        # `cgi_name` is empty for a name with an underscore, and both interfaces leave such a field out, unless the
        # parser hands it on. It could pose as the field with a hyphen, since frameworks give both the same name
        # (Django's META, for example).
        self.value = value = value.rstrip(" \t")
        self.raw = (raw, value.encode("latin-1"))


class Fields(dict[str, str]):
    """Header fields by lower-case name. Repeated fields are joined in their order (RFC 9110 section 5.3).

    All requests with the same lines share this object, so it must not be changed. It caches the forms that the adapters
    need in `environ` and `raw`, and in `told` what the fields say about the origin if the peer is trusted.
    """

    __slots__ = ("environ", "lines", "raw", "told")

    def __init__(self, values: dict[str, str], lines: list[FieldLine]) -> None:
        super().__init__(values)
        self.lines = lines
        """The lines in the order in which they were sent."""
        self.environ: dict[str, str] | None = None
        self.raw: list[tuple[bytes, bytes]] | None = None
        self.told: ForwardedFields | None = None


class Framing(NamedTuple):
    """What a head says about its body and about the connection."""

    length: int
    """Bytes of the body, or CHUNKED."""
    expects_continue: bool
    persists: bool
    """Whether the client wants to keep the connection open."""


class Head:
    """The head of a request. Text is ISO-8859-1, one character for each byte that was sent.

    All requests with exactly the same bytes share this object, so it must not be changed. `framing` is computed once.
    """

    __slots__ = ("fields", "framing", "line", "method", "minor", "path", "query", "target", "upgrades")

    def __init__(self, method: str, target: str, minor: int, fields: Fields, line: bytes = b"") -> None:
        self.method = method
        self.target = target
        """The target as it was sent."""
        self.line = line
        """The request line as it was sent."""
        self.minor = minor
        """The minor version: 0 or 1."""
        self.fields = fields
        self.upgrades = "upgrade" in fields
        """Whether there is an Upgrade field. Stored, because it is checked for every request."""
        self.framing: Framing | None = None
        """None until it is computed, and if it was refused."""
        self.path, _, self.query = target.partition("?")


_find_bare_line_feed = re.compile(rb"(?<!\r)\n").search

_match_empty_lines = re.compile(rb"(?:\r\n)++").match


def skip_empty_lines(received: bytes | bytearray) -> int:
    """Return the index after the empty lines at the beginning."""
    match = _match_empty_lines(received)
    return match.end() if match else 0


def find_end(received: bytes | bytearray, limits: Limits) -> int:
    """Return the index after the empty line that ends the head, or 0 while it has not arrived.

    Raises Refusal as soon as the request line is malformed, or it or the fields are too long.
    """
    end = received.find(b"\r\n\r\n") + 4
    line_end = received.find(b"\n", 0, limits.request_line + 2) + 1
    if line_end == 0:
        if len(received) >= limits.request_line + 2:
            raise above_limit(HTTPStatus.REQUEST_URI_TOO_LONG, f"request line above {limits.request_line} bytes")
        return 0
    if end == 3:
        end = 0
    is_too_long = (end or len(received)) - line_end > limits.headers
    if is_too_long or not end:
        # What is malformed is refused before the head is complete. A client that ends its lines with a bare LF, or
        # speaks TLS, should not have to wait for the timeout. The response names the first error.
        _parse_request_line(received[:line_end].decode("latin-1"))
        if _find_bare_line_feed(received, line_end, line_end + limits.headers):
            raise bad_request("malformed header field")
    if is_too_long:
        raise above_limit(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"header fields above {limits.headers} bytes")
    return end


class HeadParser:
    """Parses heads, and caches them.

    Clients repeat themselves: most requests have all header lines of the previous one, or all but one or two, and many
    requests are equal to the byte. A cached item was checked completely, and is found by all of its bytes.
    """

    __slots__ = ("_blocks", "_hands_on", "_heads", "_limits", "_lines", "_refuses")

    def __init__(self, limits: Limits, underscores: Underscores) -> None:
        self._limits = limits
        self._hands_on = underscores is Underscores.PASS
        self._refuses = underscores is Underscores.REFUSE
        self._heads: Memory[bytes, Head] = Memory(REMEMBERED)
        self._blocks: Memory[bytes, Fields] = Memory(REMEMBERED)
        self._lines: Memory[bytes, FieldLine] = Memory(REMEMBERED_LINES)

    def parse(self, received: bytes) -> Head:
        """Parse a complete head, including its empty line. Raises Refusal."""
        return self._heads.get(received) or self._parse(received)

    def _parse(self, received: bytes) -> Head:
        line_end = received.index(b"\n") + 1
        line = received[:line_end]
        method, target, minor = _parse_request_line(line.decode("latin-1"))
        block = received[line_end:]
        known = self._blocks.get(block)
        fields = known or self._parse_fields(block)
        if minor == 1 and "host" not in fields:
            raise bad_request("no Host")
        if method == "CONNECT":
            # For any target: after a 2xx to CONNECT, proxies on the way no longer treat the bytes as HTTP (RFC 9110,
            # section 9.3.6).
            raise bad_request("CONNECT is not supported", HTTPStatus.NOT_IMPLEMENTED)
        if target[0] == "/":
            head = Head(method, target, minor, fields, line)
        else:
            head = _parse_other_target(method, target, minor, fields)
            head.line = line
        if len(received) <= LONGEST_REMEMBERED:
            if known is None:
                self._blocks.remember(block, fields)
            else:
                # Cache the head only when its lines were seen before. Lines that never repeat are cached only once.
                self._heads.remember(received, head)
        return head

    def _parse_fields(self, block: bytes) -> Fields:
        """Parse header lines. `block` ends with the empty line."""
        known = self._lines.get
        lines = [known(text) or self._parse_line(text) for text in block[:-4].split(b"\r\n")] if len(block) > 2 else []
        if len(lines) > self._limits.header_count:
            reason = f"more than {self._limits.header_count} header fields"
            raise above_limit(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason)
        values = {line.name: line.value for line in lines}
        if len(values) != len(lines):
            values = _joined(lines)
        return Fields(values, _unambiguous(lines) if self._hands_on else lines)

    def _parse_line(self, text: bytes) -> FieldLine:
        match = _match_field_line(text.decode("latin-1"))
        if match is None:
            raise bad_request("malformed header field")
        line = FieldLine(*match.groups())
        if not line.cgi_name:  # The name has an underscore.
            if self._refuses:
                raise bad_request("underscore in the name of a header field")
            if self._hands_on:
                line.cgi_name = _cgi_name(line.name)
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
    if major != "1":
        raise bad_request("this server speaks HTTP/1.1 and HTTP/1.0", HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    if "#" in target:
        raise bad_request("fragment in the request target")
    return method, target, min(int(minor), 1)  # A later version is processed as 1.1 (RFC 9110 section 2.5).


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
    # RFC 9112 section 3.2.2: the authority replaces the Host field.
    lines = [FieldLine("host", authority), *(line for line in fields.lines if line.name != "host")]
    fields = Fields({**fields, "host": authority}, lines)
    head = Head(method, rest if rest.startswith("/") else f"/{rest}", minor, fields)
    head.target = target
    return head


def _unambiguous(lines: list[FieldLine]) -> list[FieldLine]:
    """Leave out lines with an underscore in the name if another line has the same name but for - and _.

    An application could not tell them apart. So what a proxy says in a field without underscores is neither replaced
    nor extended by a client.
    """
    if not any("_" in line.name for line in lines):
        return lines
    spellings: dict[str, set[str]] = {}
    for line in lines:
        spellings.setdefault(line.name.replace("_", "-"), set()).add(line.name)
    return [line for line in lines if "_" not in line.name or len(spellings[line.name.replace("_", "-")]) == 1]


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

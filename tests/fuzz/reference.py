"""A second opinion on what is a request and where the next one begins: one byte after the other, slow and obvious.

Written from RFC 9112 and the issue's list of refusals, and sharing nothing with the server: where the two disagree,
somebody could smuggle a request.
"""

from dataclasses import dataclass, field
from enum import Enum, auto

from clusterd.http.settings import Limits

TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
DIGITS = frozenset(b"0123456789")
HEXADECIMAL = frozenset(b"0123456789abcdefABCDEF")
HOST = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%!$&'()*+,;=")
LITERAL = frozenset(b"0123456789abcdefABCDEF:.")
CHUNK_LINE = 256
NOT_IN_TRAILERS = {b"authorization", b"connection", b"content-encoding", b"content-length"}
NOT_IN_TRAILERS |= {b"host", b"te", b"trailer", b"transfer-encoding", b"upgrade"}


class End(Enum):
    """How a stream ends for the server."""

    NOTHING_MORE = auto()
    """After a whole request."""
    INCOMPLETE = auto()
    """Within a request that may still become a good one."""
    BAD = auto()
    """With something to be refused."""


@dataclass
class Request:
    """A whole request."""

    method: bytes
    target: bytes
    minor: int
    fields: dict[bytes, bytes]
    handed_on: set[bytes] = field(default_factory=set)
    """The names that the application is told."""
    body: bytes = b""
    persists: bool = True
    expects: bool = False
    end: int = 0
    """Where the next one begins."""


@dataclass
class Reading:
    """What a stream holds."""

    requests: list[Request] = field(default_factory=list)
    end: End = End.NOTHING_MORE
    bad_head: int | None = None
    """Where the head begins that is refused, when it is the head."""


class Bad(Exception):
    """To be refused."""


class More(Exception):
    """Ends before it is whole."""


def read(data: bytes, limits: Limits, underscores: str) -> Reading:
    """Every request in the bytes, until one is refused or incomplete."""
    reading = Reading()
    at = 0
    while True:
        while data[at : at + 2] == b"\r\n":
            at += 2
        if at == len(data) or data[at:] == b"\r":
            return reading
        head_at = at
        try:
            request, at = read_head(data, at, limits)
            request.handed_on = names_handed_on(request, underscores)
            head_at = -1
            request.body, at = read_body(request, data, at, limits)
        except Bad:
            reading.end = End.BAD
            reading.bad_head = None if head_at < 0 else head_at
            return reading
        except More:
            reading.end = End.INCOMPLETE
            return reading
        request.end = at
        reading.requests.append(request)


def read_line(data: bytes, at: int, most: int) -> tuple[bytes, int]:
    """A line without its CRLF, and where the next begins. The only CR is that before the only LF."""
    for index in range(at, len(data)):
        if index - at >= most + 2:
            raise Bad("too long")
        if data[index] == 10:
            line = data[at : index + 1]
            if line[-2:] != b"\r\n" or 13 in line[:-2]:
                raise Bad("bare CR or LF")
            return line[:-2], index + 1
    if len(data) - at >= most + 2:
        raise Bad("too long")
    raise More


def read_head(data: bytes, at: int, limits: Limits) -> tuple[Request, int]:
    """The request line and the fields."""
    line, at = read_line(data, at, limits.request_line)
    request = read_request_line(line)
    fields_at = at
    fields = []
    while True:
        line, at = read_line(data, at, limits.headers)
        if at - fields_at > limits.headers:
            raise Bad("too much")
        if not line:
            break
        fields.append(read_field(line))
    if len(fields) > limits.header_count:
        raise Bad("too many")
    for name, value in fields:
        if name not in request.fields:
            request.fields[name] = value
        elif name in (b"host", b"content-length", b"content-type"):
            raise Bad("repeated")
        else:
            request.fields[name] += (b"; " if name == b"cookie" else b", ") + value
    check_target(request)
    return request, at


def names_handed_on(request: Request, underscores: str) -> set[bytes]:
    """Those without underscores, and where they are passed those that no other could be taken for."""
    names = set(request.fields)
    plain = {name for name in names if b"_" not in name}
    if underscores == "refuse" and names != plain:
        raise Bad("underscore")
    if underscores != "pass":
        return plain
    alike = [name.replace(b"_", b"-") for name in names]
    return plain | {name for name in names if alike.count(name.replace(b"_", b"-")) == 1}


def read_request_line(line: bytes) -> Request:
    """Method, target and version, one space between."""
    parts = line.split(b" ")
    if len(parts) != 3:
        raise Bad("not three parts")
    method, target, version = parts
    if not method or any(byte not in TOKEN for byte in method):
        raise Bad("method")
    if not target or any(byte < 33 or byte > 126 for byte in target) or b"#" in target:
        raise Bad("target")
    if len(version) != 8 or not version.startswith(b"HTTP/1.") or version[-1] not in DIGITS:
        raise Bad("version")
    return Request(method, target, 0 if version[-1] == 48 else 1, {})


def read_field(line: bytes) -> tuple[bytes, bytes]:
    """Name in lower case, and value."""
    name, colon, value = line.partition(b":")
    if not colon or not name or any(byte not in TOKEN for byte in name):
        raise Bad("name")
    if any((byte < 32 and byte != 9) or byte == 127 for byte in value):
        raise Bad("value")
    return name.lower(), value.strip(b" \t")


def check_target(request: Request) -> None:
    """Its form fits the method; the host is said once, and is one."""
    host = request.fields.get(b"host")
    if host is None and request.minor == 1:
        raise Bad("no host")
    if host is not None:
        check_host(host)
    if request.method == b"CONNECT":
        raise Bad("nothing to connect to")
    target = request.target
    if target.startswith(b"/"):
        return
    if target == b"*":
        if request.method != b"OPTIONS":
            raise Bad("asterisk")
        return
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        raise Bad("neither path nor URI")
    authority = b""
    for byte in rest:
        if byte in b"/?":
            break
        authority += bytes([byte])
    check_host(authority)
    if not authority or authority.startswith(b":"):
        raise Bad("a URI without a host")
    request.fields[b"host"] = authority


def check_host(host: bytes) -> None:
    """Name or address, and perhaps a port; no user information."""
    rest = host
    if rest.startswith(b"["):
        address, bracket, rest = rest[1:].partition(b"]")
        if not bracket or not address or any(byte not in LITERAL for byte in address):
            raise Bad("host")
    else:
        while rest and rest[0] in HOST:
            rest = rest[1:]
    if rest and (rest[0] != 58 or any(byte not in DIGITS for byte in rest[1:])):
        raise Bad("host")


def read_body(request: Request, data: bytes, at: int, limits: Limits) -> tuple[bytes, int]:
    """The body, and where the next request begins."""
    fields = request.fields
    length, coding = fields.get(b"content-length"), fields.get(b"transfer-encoding")
    options = [option.strip(b" \t") for option in fields.get(b"connection", b"").lower().split(b",")]
    request.persists = b"close" not in options and (request.minor == 1 or b"keep-alive" in options)
    size = 0
    if coding is not None:
        if length is not None or request.minor == 0 or coding.lower() != b"chunked":
            raise Bad("transfer coding")
    elif length is not None:
        if not length or any(byte not in DIGITS for byte in length):
            raise Bad("length")
        if len(length) > 19 or int(length) > limits.body:
            raise Bad("too large")
        size = int(length)
    if b"expect" in fields and request.minor == 1:
        for member in fields[b"expect"].lower().split(b","):
            if member.strip(b" \t") not in (b"", b"100-continue"):
                raise Bad("expectation")
            request.expects = request.expects or bool(member.strip(b" \t"))
    if coding is not None:
        return read_chunks(data, at, limits)
    if len(data) - at < size:
        raise More
    return data[at : at + size], at + size


def check_extensions(rest: bytes) -> None:
    """`name` or `name=value`, separated by semicolons; a value is a token or a quoted string."""
    while True:
        rest = take_token(rest.lstrip(b" \t")).lstrip(b" \t")
        if rest.startswith(b"="):
            rest = rest[1:].lstrip(b" \t")
            rest = (take_string(rest[1:]) if rest.startswith(b'"') else take_token(rest)).lstrip(b" \t")
        if not rest:
            return
        if not rest.startswith(b";"):
            raise Bad("extension")
        rest = rest[1:]


def take_token(text: bytes) -> bytes:
    """What comes after the token at the beginning."""
    length = 0
    while length < len(text) and text[length] in TOKEN:
        length += 1
    if not length:
        raise Bad("no token")
    return text[length:]


def take_string(text: bytes) -> bytes:
    """What comes after the closing quote."""
    at = 0
    while at < len(text):
        if text[at : at + 1] == b'"':
            return text[at + 1 :]
        at += 2 if text[at : at + 1] == b"\\" else 1
        if any((byte < 32 and byte != 9) or byte == 127 for byte in text[at - 1 : at]):
            raise Bad("control")
    raise Bad("string")


def read_chunks(data: bytes, at: int, limits: Limits) -> tuple[bytes, int]:
    """Chunks up to the last, and trailers."""
    body = b""
    while True:
        line, at = read_line(data, at, CHUNK_LINE)
        digits, semicolon, extension = line.partition(b";")
        if not digits or len(digits) > 16 or any(byte not in HEXADECIMAL for byte in digits):
            raise Bad("size")
        if semicolon:
            check_extensions(extension)
        size = int(digits, 16)
        if len(body) + size > limits.body:
            raise Bad("too large")
        if size == 0:
            break
        body += data[at : at + size]
        at += size
        if len(data) < at:
            raise More
        for byte in b"\r\n":
            if len(data) == at:
                raise More
            if data[at] != byte:
                raise Bad("chunk end")
            at += 1
    trailers_at = at
    while True:
        line, at = read_line(data, at, limits.headers)
        if at - trailers_at > limits.headers:
            raise Bad("too much")
        if not line:
            return body, at
        if read_field(line)[0] in NOT_IN_TRAILERS:
            raise Bad("forbidden")

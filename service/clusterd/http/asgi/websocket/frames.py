"""The frames of a WebSocket (RFC 6455 section 5), and what a client says with them."""

from dataclasses import dataclass
from typing import Final

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10
NONE: Final = -1
"""The operation code of no frame."""
FINAL: Final = 0x80
COMPRESSED: Final = 0x40
RESERVED: Final = 0x30
MASKED: Final = 0x80
OPCODE_BITS: Final = 0x0F
LENGTH_BITS: Final = 0x7F

MOST_CONTROL_BYTES = 125
LENGTH_16: Final = 126
LENGTH_64: Final = 127

PROTOCOL_ERROR = 1002
NO_STATUS = 1005
INVALID_DATA = 1007
TOO_BIG = 1009
CODES = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
"""Those below 3000 that a closing frame may have (RFC 6455 section 7.4, and IANA's registry)."""


@dataclass(frozen=True, slots=True)
class Ping:
    """A ping of the client."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """The end of a WebSocket: its code and its reason as a text. The code is 1005 if the closing frame had none."""

    code: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """The client has violated the protocol or a limit. Its further bytes cannot be parsed."""

    close: Close
    """The closing frame to send."""


@dataclass(frozen=True, slots=True)
class Pause:
    """There is more to decode, in another turn."""


PAUSE = Pause()

Incoming = str | bytes | Ping | Close | Fault | Pause


def wrong_in(first: int, second: int, *, is_within: bool, may_compress: bool) -> str:
    """Return what is wrong with a client's frame that begins with these bytes; empty if nothing is.

    `is_within` says whether it comes between the first and the last frame of a message.
    """
    opcode = first & OPCODE_BITS
    if opcode > PONG or BINARY < opcode < CLOSE:
        return f"a reserved operation code, {opcode}"
    if not second & MASKED:
        return "a frame without a mask"
    begins_message = opcode in (TEXT, BINARY)
    if first & RESERVED or (first & COMPRESSED and not (begins_message and may_compress)):
        return "a reserved bit is set"
    if opcode >= CLOSE:
        is_whole = first & FINAL and second & LENGTH_BITS <= MOST_CONTROL_BYTES
        return "" if is_whole else "a control frame that is a fragment or too long"
    if begins_message and is_within:
        return "a message within another one"
    if opcode == CONTINUATION and not is_within:
        return "the continuation of no message"
    return ""


def encode_frame(first: int, payload: bytes) -> bytes:
    """Return a frame of the server, which has no mask."""
    size = len(payload)
    if size < LENGTH_16:
        return bytes((first, size)) + payload
    if size < 1 << 16:
        return bytes((first, LENGTH_16, size >> 8, size & 0xFF)) + payload
    return bytes((first, LENGTH_64)) + size.to_bytes(8, "big") + payload


def least_length(written: int) -> int:
    """Return the least length for which a frame begins with `written`, itself or the mark of a field."""
    return 1 << 16 if written == LENGTH_64 else written


def close_in(payload: bytes) -> Close | Fault:
    """Return what the client's closing frame says."""
    if not payload:
        return Close(NO_STATUS)
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or not (code in CODES or 3000 <= code <= 4999):
        return violation("a closing frame without a code that may be sent")
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        return Fault(Close(INVALID_DATA, "a reason that is not UTF-8"))


def violation(what: str) -> Fault:
    """Return the fault of a client that does not keep to the protocol."""
    return Fault(Close(PROTOCOL_ERROR, what))

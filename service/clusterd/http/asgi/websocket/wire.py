"""The frames of one WebSocket, by wsproto: bytes in, whole messages and the client's wishes out, and back.

The only module that imports wsproto, which an application without WebSockets does not need: it is imported when
the first of them is asked for. No socket, no clock, no ASGI.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO, StringIO

from wsproto import events
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

SLICE_BYTES = 64 * 1024
"""Decoded at a time."""
COMPRESSED_SLICE_BYTES = 4096
"""The same where messages are compressed: they may grow a thousandfold, to which wsproto sets no bound, before their
size can be looked at."""


@dataclass(frozen=True, slots=True)
class Ping:
    """The client wants to know whether we are there."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """The end of a WebSocket: its code and the reason in words. 1005 where the closing frame had no code."""

    code: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """The client has broken the protocol or a limit, and cannot be understood any more."""

    close: Close
    """What to tell it."""


Incoming = str | bytes | Ping | Close | Fault


class Deflate(PerMessageDeflate):
    """permessage-deflate (RFC 7692), where wsproto is more lenient than the standard or mistaken."""

    def __init__(self) -> None:
        super().__init__()
        self._is_between = False

    def accept(self, offer: str) -> bool | str | None:
        """The agreed parameters; None for an offer that cannot be accepted."""
        names: set[str] = set()
        for each in offer.split(";")[1:]:
            name = each.split("=")[0].strip()
            if _match_parameter(each) is None or name in names:
                return None  # section 7.1: an offer with anything unknown, repeated or out of range is declined
            names.add(name)
        return super().accept(offer)

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        """Take note of control frames, which may come between those of a message: wsproto would forget it there."""
        self._is_between = opcode.iscontrol()
        if self._is_between:
            return RsvBits(False, False, False)
        return super().frame_inbound_header(proto, opcode, rsv, payload_length)

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        """Decompress a part of a message."""
        return data if self._is_between else super().frame_inbound_payload_data(proto, data)

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        """Decompress the end of a message."""
        return None if self._is_between else super().frame_inbound_complete(proto, fin)


_BITS = r"[ \t]*=[ \t]*(?:9|1[0-5])"  # zlib has no windows of 8 bits
_match_parameter = re.compile(
    r"[ \t]*(?:(?:client|server)_no_context_takeover"
    rf"|client_max_window_bits(?:{_BITS})?|server_max_window_bits{_BITS})[ \t]*"
).fullmatch


@dataclass(frozen=True, slots=True)
class Compression:
    """What was agreed on."""

    extension: Deflate
    accepted: str
    """As the response says it."""


def agree_on_compression(offers: Iterable[str]) -> Compression | None:
    """The first offer that can be accepted."""
    for offer in offers:
        if offer.split(";")[0].strip() == Deflate.name:
            extension = Deflate()
            parameters = extension.accept(offer)
            if isinstance(parameters, str):
                return Compression(extension, f"{Deflate.name}; {parameters}" if parameters else Deflate.name)
    return None


class Wire:
    """Both directions of one WebSocket. A message above `limit` bytes is a fault."""

    __slots__ = ("_connection", "_events", "_limit", "_message", "_size", "_slice", "_unread")

    def __init__(self, limit: int, compression: Compression | None) -> None:
        self._connection = Connection(ConnectionType.SERVER, [compression.extension] if compression else [])
        self._limit = limit
        self._slice = COMPRESSED_SLICE_BYTES if compression else SLICE_BYTES
        self._unread = memoryview(b"")
        self._events: Iterator[events.Event] = iter(())
        self._message: StringIO | BytesIO | None = None
        """What is here of a message whose end is not."""
        self._size = 0

    # ---- from the client

    def take(self, data: bytes) -> None:
        """Add what was read."""
        self._unread = memoryview(bytes(self._unread) + data if self._unread else data)

    def next(self) -> Incoming | None:
        """What comes next out of what was read; None when that takes more. Not to be asked after a Close or a Fault."""
        while True:
            for event in self._events:
                incoming = self._understand(event)
                if incoming is not None:
                    return incoming
            if not self._unread:
                return None
            self._connection.receive_data(bytes(self._unread[: self._slice]))
            self._unread = self._unread[self._slice :]
            self._events = self._connection.events()

    def _understand(self, event: events.Event) -> Incoming | None:
        match event:
            case events.TextMessage(data=str(text)):
                return self._add(text, len(text) if text.isascii() else len(text.encode()), event.message_finished)
            case events.BytesMessage(data=data):
                return self._add(bytes(data), len(data), event.message_finished)
            case events.Ping(payload=payload):
                return Ping(bytes(payload))
            case events.CloseConnection(code=code, reason=reason):
                close = Close(int(code), reason or "")
                # wsproto tells of its own complaints in the same way, but takes no step towards closing then.
                is_complaint = self._connection.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING)
                return Fault(close) if is_complaint else close
        return None

    def _add(self, data: str | bytes, size: int, is_end: bool) -> Incoming | None:
        self._size += size
        if self._size > self._limit:
            return Fault(Close(CloseReason.MESSAGE_TOO_BIG.value, f"message above {self._limit} bytes"))
        if self._message is None:
            if is_end:
                self._size = 0
                return data
            self._message = StringIO(newline="") if isinstance(data, str) else BytesIO()
        # Written into one piece: of as many fragments as it has bytes, a list would take many times as much.
        self._message.write(data)  # type: ignore[arg-type]  # a message's fragments are all of its kind
        if not is_end:
            return None
        message, self._message, self._size = self._message.getvalue(), None, 0
        return message

    # ---- to the client

    def message(self, data: str | bytes) -> bytes:
        """A whole message."""
        return self._connection.send(
            events.TextMessage(data=data) if isinstance(data, str) else events.BytesMessage(data=data)
        )

    def ping(self) -> bytes:
        """A question whether the client is there."""
        return self._connection.send(events.Ping())

    def pong(self, payload: bytes) -> bytes:
        """The answer to that question."""
        return self._connection.send(events.Pong(payload))

    def close(self, close: Close) -> bytes:
        """The closing frame: after it, nothing can be sent."""
        # wsproto leaves the code out for its own constant only.
        code = CloseReason.NO_STATUS_RCVD if close.code == CloseReason.NO_STATUS_RCVD else close.code
        return self._connection.send(events.CloseConnection(code, close.reason or None))

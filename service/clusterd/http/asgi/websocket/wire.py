"""Encodes and decodes the frames of one WebSocket, with wsproto. Uses no socket, no clock and no ASGI.

This is the only module that imports wsproto. It is imported where wsproto is installed, because an application without
WebSockets does not need it.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO, StringIO
from typing import Any

from wsproto import events
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

from clusterd.http.messages.allowance import SMALL_BYTES

SLICE_BYTES = 64 * 1024
"""Bytes that are decoded at a time."""

COMPRESSED_SLICE_BYTES = 4096
"""The same for compressed messages. They may grow a thousandfold before their size can be checked, and wsproto sets no
limit."""

TURN_EVENTS = 4
"""Maximum events of one client that are decoded before other connections have their turn. wsproto needs about 10 us for
each."""

PING_EVENTS = 2
"""What a ping counts as, because it is answered at once."""

SLICE_EVENTS = 1
COMPRESSED_SLICE_EVENTS = 4
"""What a slice counts as, beside the events in it."""


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


class Deflate(PerMessageDeflate):
    """permessage-deflate (RFC 7692). Corrects wsproto where it is wrong or more lenient than the standard."""

    def __init__(self) -> None:
        super().__init__()
        self._is_between = False

    def accept(self, offer: str) -> bool | str | None:
        """Return the agreed parameters; None if the offer is declined."""
        names: set[str] = set()
        for each in offer.split(";")[1:]:
            name = each.split("=")[0].strip()
            if _match_parameter(each) is None or name in names:
                return None  # RFC 7692 section 7.1: decline anything unknown, repeated or out of range.
            names.add(name)
        return super().accept(offer)

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        """Remember whether this is a control frame. It may come between those of a message, whose state wsproto would
        lose there.
        """
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


_BITS = r"[ \t]*=[ \t]*(?:9|1[0-5])"  # zlib does not support windows of 8 bits.
_match_parameter = re.compile(
    r"[ \t]*(?:(?:client|server)_no_context_takeover"
    rf"|client_max_window_bits(?:{_BITS})?|server_max_window_bits{_BITS})[ \t]*"
).fullmatch


@dataclass(frozen=True, slots=True)
class Compression:
    """The agreed compression."""

    extension: Deflate
    accepted: str
    """The value for the response's Sec-WebSocket-Extensions."""


def agree_on_compression(offers: Iterable[str]) -> Compression | None:
    """Accept the first offer that can be accepted; None if there is none."""
    for offer in offers:
        if offer.split(";")[0].strip() == Deflate.name:
            extension = Deflate()
            parameters = extension.accept(offer)
            if isinstance(parameters, str):
                return Compression(extension, f"{Deflate.name}; {parameters}" if parameters else Deflate.name)
    return None


class Wire:
    """Both directions of one WebSocket. A message above `limit` bytes is a fault."""

    __slots__ = (
        "_connection",
        "_events",
        "_is_in_frame",
        "_left",
        "_limit",
        "_message",
        "_size",
        "_slice",
        "_slice_events",
        "_unread",
        "small",
    )

    def __init__(self, limit: int, compression: Compression | None) -> None:
        self._connection = Connection(ConnectionType.SERVER, [compression.extension] if compression else [])
        self._limit = limit
        self._slice = COMPRESSED_SLICE_BYTES if compression else SLICE_BYTES
        self._slice_events = COMPRESSED_SLICE_EVENTS if compression else SLICE_EVENTS
        self._left = TURN_EVENTS
        self._is_in_frame = False
        """Whether a part of a frame was read, and more of it is to come."""
        self.small = 0
        """Control frames and small fragments that were decoded."""
        self._unread = memoryview(b"")
        self._events: Iterator[events.Event] = iter(())
        self._message: StringIO | BytesIO | None = None
        """The received part of an incomplete message."""
        self._size = 0

    @property
    def held(self) -> int:
        """Bytes of an incomplete message."""
        return self._size

    def forget(self) -> None:
        """Drop an incomplete message. Nothing is decoded afterwards."""
        self._message, self._size = None, 0

    # ---- from the client

    def take(self, data: bytes) -> None:
        """Add bytes that were read."""
        self._unread = memoryview(bytes(self._unread) + data if self._unread else data)

    def begin_turn(self) -> None:
        """Decode TURN_EVENTS more."""
        self._left = TURN_EVENTS

    def next(self) -> Incoming | None:
        """Return the next event; None if more bytes are needed. Do not call this after a Close or a Fault."""
        while self._left > 0:
            event = next(self._events, None)
            if event is not None:
                self._left -= 1
                incoming = self._understand(event)
                if incoming is not None:
                    return incoming
            elif self._unread:
                self._left -= self._slice_events
                self._connection.receive_data(bytes(self._unread[: self._slice]))
                self._unread = self._unread[self._slice :]
                self._events = self._connection.events()
            else:
                return None
        return PAUSE

    def _understand(self, event: events.Event) -> Incoming | None:
        match event:
            case events.TextMessage(data=str(text)):
                return self._add(text, len(text) if text.isascii() else len(text.encode()), event)
            case events.BytesMessage(data=data):
                return self._add(bytes(data), len(data), event)
            case events.Ping(payload=payload):
                self._left -= PING_EVENTS - 1
                self.small += 1
                return Ping(bytes(payload))
            case events.Pong():
                self.small += 1
            case events.CloseConnection(code=code, reason=reason):
                close = Close(int(code), reason or "")
                # wsproto reports its own protocol errors with the same event, but does not begin to close then.
                is_complaint = self._connection.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING)
                return Fault(close) if is_complaint else close
        return None

    def _add(self, data: str | bytes, size: int, event: events.Message[Any]) -> Incoming | None:
        is_end = event.message_finished
        if size < SMALL_BYTES and event.frame_finished and not (is_end or self._is_in_frame):
            self.small += 1
        self._is_in_frame = not event.frame_finished
        self._size += size
        if self._size > self._limit:
            return Fault(Close(CloseReason.MESSAGE_TOO_BIG.value, f"message above {self._limit} bytes"))
        if self._message is None:
            if is_end:
                self._size = 0
                return data
            self._message = StringIO(newline="") if isinstance(data, str) else BytesIO()
        # Fragments are joined at once: a list of one-byte fragments would need many times the memory of the message.
        self._message.write(data)  # type: ignore[arg-type]  # All fragments of a message have its type.
        if not is_end:
            return None
        message, self._message, self._size = self._message.getvalue(), None, 0
        return message

    # ---- to the client

    def message(self, data: str | bytes) -> bytes:
        """Encode a message."""
        return self._connection.send(
            events.TextMessage(data=data) if isinstance(data, str) else events.BytesMessage(data=data)
        )

    def ping(self) -> bytes:
        """Encode a ping."""
        return self._connection.send(events.Ping())

    def pong(self, payload: bytes) -> bytes:
        """Encode a pong."""
        return self._connection.send(events.Pong(payload))

    def close(self, close: Close) -> bytes:
        """Encode the closing frame. Nothing can be sent after it."""
        # wsproto omits the code only for its own constant.
        code = CloseReason.NO_STATUS_RCVD if close.code == CloseReason.NO_STATUS_RCVD else close.code
        return self._connection.send(events.CloseConnection(code, close.reason or None))

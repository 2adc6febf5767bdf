"""Encodes and decodes the frames of one WebSocket (RFC 6455 section 5). Uses no socket, no clock and no ASGI."""

import zlib
from codecs import getincrementaldecoder
from io import BytesIO, StringIO

from clusterd.http.asgi.websocket import frames
from clusterd.http.asgi.websocket.compression import Compression
from clusterd.http.asgi.websocket.frames import NONE, PAUSE, Close, Fault, Incoming, Ping
from clusterd.http.asgi.websocket.masking import MASK_BYTES, unmask
from clusterd.http.messages.allowance import SMALL_BYTES

SLICE_BYTES = 64 * 1024
"""Bytes of a frame that are decoded at a time."""

COMPRESSED_SLICE_BYTES = 4096
"""The same for compressed messages, which may grow a thousandfold."""

TURN_COST = 16
"""What is decoded for one client before other connections have their turn: frames, and slices of larger ones."""

PING_COST = 2
"""What a ping counts as, because it is answered at once."""

COMPRESSED_COST = 4
"""What a slice of a compressed message counts as."""

_new_decoder = getincrementaldecoder("utf-8")


class Wire:
    """Both directions of one WebSocket. A message above `limit` bytes is a fault."""

    __slots__ = (
        "_at",
        "_compression",
        "_decoder",
        "_frame",
        "_frame_bytes",
        "_is_compressed",
        "_is_final",
        "_kind",
        "_left",
        "_limit",
        "_mask",
        "_message",
        "_missing",
        "_size",
        "_unread",
        "small",
    )

    def __init__(self, limit: int, compression: Compression | None) -> None:
        self._limit = limit
        self._compression = compression
        self._left = TURN_COST
        self.small = 0
        """Control frames and small fragments that were decoded."""
        self._unread = b""
        self._at = 0
        """The place in `_unread` up to which it was decoded."""
        # The frame that has begun, if one has.
        self._frame = NONE
        self._frame_bytes = 0
        self._missing = 0
        """Bytes of its payload that were not decoded yet."""
        self._is_final = False
        self._mask = b""
        # The message that has begun, if one has.
        self._kind = NONE
        self._is_compressed = False
        self._size = 0
        self._message: StringIO | BytesIO | None = None
        """What was decoded of it, unless it is complete at once."""
        self._decoder = _new_decoder()

    @property
    def held(self) -> int:
        """Bytes of an incomplete message."""
        return self._size

    def forget(self) -> None:
        """Drop an incomplete message, and what is kept for others. Nothing is decoded afterwards."""
        self._message, self._size = None, 0
        self._compression = None
        self._drop_decoded()

    # ---- from the client

    def take(self, data: bytes) -> None:
        """Add bytes that were read."""
        self._unread = self._unread[self._at :] + data if self._at < len(self._unread) else data
        self._at = 0

    def begin_turn(self) -> None:
        """Decode TURN_COST more."""
        self._left = TURN_COST

    def next(self) -> Incoming | None:
        """Return the next event; None if more bytes are needed. Do not call this after a Close or a Fault."""
        while self._left > 0:
            if self._frame == NONE:
                fault = self._begin_frame()
                if fault is not None:
                    return fault
                if self._frame == NONE:
                    self._drop_decoded()
                    return None
            there = len(self._unread) - self._at
            if self._frame >= frames.CLOSE:
                if there < self._missing:
                    return None
                incoming = self._end_control_frame()
            elif there or not self._missing:
                incoming = self._advance_message()
            else:
                self._drop_decoded()
                return None
            if incoming is not None:
                return incoming
        return PAUSE

    def _drop_decoded(self) -> None:
        """Keep nothing of what was read and is decoded: a WebSocket may be silent for days."""
        if self._at:
            self._unread, self._at = self._unread[self._at :], 0

    def _begin_frame(self) -> Fault | None:
        """Decode the head of a frame, if all of it is there."""
        data, at = self._unread, self._at
        there = len(data) - at
        if there < 2:
            return None
        first, second = data[at], data[at + 1]
        wrong = frames.wrong_in(first, second, is_within=self._kind != NONE, may_compress=self._compression is not None)
        if wrong:
            return frames.violation(wrong)
        length = second & frames.LENGTH_BITS
        at += 2
        if length == frames.LENGTH_16:
            length, at = int.from_bytes(data[at : at + 2], "big"), at + 2
        elif length == frames.LENGTH_64:
            length, at = int.from_bytes(data[at : at + 8], "big"), at + 8
        if at + MASK_BYTES > len(data):
            return None
        if length < frames.least_length(second & frames.LENGTH_BITS) or length >> 63:
            return frames.violation("a length that is not as short as it could be, or too large")
        opcode = first & frames.OPCODE_BITS
        if opcode < frames.CLOSE:
            if opcode != frames.CONTINUATION:
                self._kind, self._is_compressed = opcode, bool(first & frames.COMPRESSED)
            if self._size + length > self._limit and not self._is_compressed:
                return self._too_big()
        self._mask = data[at : at + MASK_BYTES]
        self._at = at + MASK_BYTES
        self._frame, self._is_final = opcode, bool(first & frames.FINAL)
        self._frame_bytes = self._missing = length
        return None

    def _payload(self, most: int) -> bytes:
        """Take from the frame's payload what is there, at most so many bytes."""
        size = min(most, self._missing, len(self._unread) - self._at)
        data = unmask(self._unread[self._at : self._at + size], self._mask)
        self._at += size
        self._missing -= size
        if self._missing:  # The next slice may begin within the mask.
            turned = size % MASK_BYTES
            self._mask = self._mask[turned:] + self._mask[:turned]
        return data

    def _end_control_frame(self) -> Incoming | None:
        payload, opcode = self._payload(frames.MOST_CONTROL_BYTES), self._frame
        self._frame = NONE
        if opcode == frames.CLOSE:
            return frames.close_in(payload)
        self.small += 1
        if opcode == frames.PONG:
            self._left -= 1
            return None
        self._left -= PING_COST
        return Ping(payload)

    def _advance_message(self) -> Incoming | None:
        """Decode a slice of a data frame; return the message if this was its end."""
        is_compressed = self._is_compressed
        self._left -= COMPRESSED_COST if is_compressed else 1
        data = self._payload(COMPRESSED_SLICE_BYTES if is_compressed else SLICE_BYTES)
        is_end = False
        if not self._missing:
            self._frame = NONE
            is_end = self._is_final
            if not is_end and self._frame_bytes < SMALL_BYTES:
                self.small += 1
        try:
            if is_compressed:
                assert self._compression is not None
                data = self._compression.decompress(data, self._limit - self._size, is_end=is_end)
                self._left -= len(data) // SLICE_BYTES
            self._size += len(data)
            if self._size > self._limit:
                return self._too_big()
            if self._message is None and is_end:
                message: str | bytes = data.decode() if self._kind == frames.TEXT else data
                self._kind, self._size = NONE, 0
                return message
            return self._join(data, is_end=is_end)
        except UnicodeDecodeError:
            return Fault(Close(frames.INVALID_DATA, "a text that is not UTF-8"))
        except zlib.error:
            return Fault(Close(frames.INVALID_DATA, "a message that is not compressed as it says"))

    def _join(self, data: bytes, *, is_end: bool) -> str | bytes | None:
        """Add to a message that comes in parts; return it at its end. Raises UnicodeDecodeError."""
        # They are joined at once: a list of parts of a byte would need many times the memory of the message.
        if self._kind == frames.TEXT:
            texts = self._message if isinstance(self._message, StringIO) else StringIO(newline="")
            texts.write(self._decoder.decode(data, is_end))
            self._message = texts
        else:
            parts = self._message if isinstance(self._message, BytesIO) else BytesIO()
            parts.write(data)
            self._message = parts
        if not is_end:
            return None
        message = self._message.getvalue()
        self._message, self._kind, self._size = None, NONE, 0
        return message

    def _too_big(self) -> Fault:
        return Fault(Close(frames.TOO_BIG, f"message above {self._limit} bytes"))

    # ---- to the client

    def message(self, data: str | bytes) -> bytes:
        """Encode a message."""
        if isinstance(data, str):
            first, payload = frames.FINAL | frames.TEXT, data.encode()
        else:
            first, payload = frames.FINAL | frames.BINARY, data
        if self._compression is not None and payload:
            return frames.encode_frame(first | frames.COMPRESSED, self._compression.compress(payload))
        return frames.encode_frame(first, payload)

    def ping(self) -> bytes:
        """Encode a ping."""
        return frames.encode_frame(frames.FINAL | frames.PING, b"")

    def pong(self, payload: bytes) -> bytes:
        """Encode a pong."""
        return frames.encode_frame(frames.FINAL | frames.PONG, payload)

    def close(self, close: Close) -> bytes:
        """Encode the closing frame. Nothing can be sent after it."""
        if close.code == frames.NO_STATUS:
            return frames.encode_frame(frames.FINAL | frames.CLOSE, b"")
        reason = close.reason.encode()[: frames.MOST_CONTROL_BYTES - 2].decode(errors="ignore")
        return frames.encode_frame(frames.FINAL | frames.CLOSE, close.code.to_bytes(2, "big") + reason.encode())

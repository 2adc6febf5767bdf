"""A client that speaks WebSockets frame by frame."""

import struct
from typing import Protocol

from tests.support.serving import Client, request

HANDSHAKE = (
    "Upgrade: websocket",
    "Connection: keep-alive, Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)
TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv1: bool = False, mask: bool = True) -> bytes:
    first = (fin << 7) | (rsv1 << 6) | opcode
    size = len(payload)
    flag = mask << 7
    if size < 126:
        head = struct.pack("!BB", first, flag | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, flag | 126, size)
    else:
        head = struct.pack("!BBQ", first, flag | 127, size)
    if not mask:
        return head + payload
    key = b"\x01\x02\x03\x04"
    return head + key + bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


class Served(Protocol):
    """What clients connect to."""

    def client(self) -> Client: ...


class Raw:
    """A client that says and sees every byte, after a handshake."""

    def __init__(self, server: Served, path: str = "/echo", *lines: str, early: bytes = b"") -> None:
        self.client = server.client()
        self.client.send(request(path, *HANDSHAKE, *lines) + early)
        self.answer = self.client.answer_head()

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.__exit__()

    def read(self, size: int) -> bytes:
        data = self.client.read(size)
        assert len(data) == size, "the connection ended within a frame"
        return data

    def frame(self) -> tuple[int, bytes]:
        first, size = self.read(2)
        assert first & 0x80
        if size == 126:
            size = int.from_bytes(self.read(2), "big")
        elif size == 127:
            size = int.from_bytes(self.read(8), "big")
        return first & 0x0F, self.read(size)

    def ends(self) -> bool:
        """Whether nothing comes before the end, whichever way that is made."""
        try:
            return self.client.rest() == b""
        except ConnectionResetError:
            return True

    def closed_with(self) -> tuple[int, str]:
        """The closing frame that comes next, and then nothing but the end."""
        opcode, payload = self.frame()
        assert opcode == CLOSE
        return (int.from_bytes(payload[:2], "big") if payload else 1005), payload[2:].decode()

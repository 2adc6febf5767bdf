"""WebSocket clients that send a message, and the next one after its echo: `echo.py PORT CONNECTIONS BYTES SECONDS`.

A program of its own. It prints the messages a second. The frames are made once, so that what is measured is the server.
"""

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
PATIENCE_SECONDS = 10.0


def echo(connections: int, size: int) -> Callable[[int, int], float]:
    """So many connections, with messages of `size` bytes. An echo of another length makes the number worthless."""

    def load(port: int, seconds: int) -> float:
        command = [sys.executable, __file__, *map(str, (port, connections, size, seconds))]
        return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)

    return load


def frame(payload: bytes, mask: bytes = b"") -> bytes:
    """A binary message in one frame (RFC 6455, section 5.2), masked as a client must."""
    if len(payload) < 126:
        length = bytes([len(payload) | (0x80 if mask else 0)])
    else:
        length = bytes([126 | (0x80 if mask else 0)]) + len(payload).to_bytes(2)
    if mask:
        stretched = (mask * (len(payload) // 4 + 1))[: len(payload)]
        payload = (int.from_bytes(payload) ^ int.from_bytes(stretched)).to_bytes(len(payload))
    return b"\x82" + length + mask + payload


def connect(port: int) -> socket.socket:
    """A connection that has been upgraded."""
    client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(HANDSHAKE)
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += client.recv(1)
    if not answer.startswith(b"HTTP/1.1 101 "):
        raise AssertionError(answer)
    return client


def messages_a_second(port: int, connections: int, size: int, seconds: float) -> float:
    """Each client has one message under way."""
    payload = os.urandom(size)
    asked, expected = frame(payload, os.urandom(4)), frame(payload)
    clients = {client.fileno(): client for client in (connect(port) for _ in range(connections))}
    left = dict.fromkeys(clients, len(expected))
    poll = select.epoll()
    for descriptor, client in clients.items():
        poll.register(descriptor, select.EPOLLIN)
        client.sendall(asked)
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        for descriptor, _ in poll.poll(PATIENCE_SECONDS):
            received = clients[descriptor].recv(left[descriptor])
            begin = len(expected) - left[descriptor]
            if not received or not expected.startswith(received, begin):
                raise AssertionError(f"no echo, from its byte {begin} on: {received[:20]!r}")
            left[descriptor] -= len(received)
            if not left[descriptor]:
                left[descriptor] = len(expected)
                count += 1
                clients[descriptor].sendall(asked)
    return count / (time.perf_counter() - begun)


if __name__ == "__main__":
    print(messages_a_second(*map(int, sys.argv[1:])))

"""A connection that moves on the moment it arrives takes every byte with it."""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from clusterd.http.carried import CarriedState
from clusterd.http.engine import Connection, Engine
from clusterd.http.settings import HttpSettings

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Ignored:
    """A place to count and to log where nobody looks."""

    def request_done(self, status: int, seconds: float) -> None: ...
    def request_timed_out(self) -> None: ...
    def connections_changed(self, count: int) -> None: ...
    def error(self, message: str, /, **fields: object) -> None: ...
    def info(self, message: str, /, **fields: object) -> None: ...
    def debug(self, message: str, /, **fields: object) -> None: ...


def answer(_: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("204 No Content", [])
    return []


@pytest.mark.parametrize("residual", [b"", REQUEST[:10]])
def test_nothing_is_read_from_a_connection_that_moves_as_it_arrives(residual: bytes) -> None:
    client, server = socket.socketpair()
    with client:
        client.sendall(REQUEST[len(residual) :])
        carried, rest = uvloop.run(move_on(server, CarriedState(residual, None, None, "http", 0)))
        moved = carried.residual + rest
        # Either the whole request moves on, or it was answered before the connection did.
        assert moved == REQUEST or (not moved and client.recv(65536).startswith(b"HTTP/1.1 204"))


async def move_on(server: socket.socket, arriving: CarriedState) -> tuple[CarriedState, bytes]:
    """Adopt a connection while handing over; what travels with it, and what the next process would read."""
    loop = asyncio.get_running_loop()
    moved: asyncio.Future[tuple[CarriedState, bytes]] = loop.create_future()

    def move(connection: Connection) -> None:
        carried = connection.detach()
        with socket.socket(fileno=os.dup(connection.fileno())) as successor:
            loop.call_later(0.05, finish, connection, carried, successor.dup())

    def finish(connection: Connection, carried: CarriedState, successor: socket.socket) -> None:
        # Whatever this process would have read by mistake is missing here.
        connection.release()
        with successor:
            try:
                rest = successor.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                rest = b""
            moved.set_result((carried, rest))

    nobody = Ignored()
    engine = Engine(answer, HttpSettings(threads=0), nobody, nobody, loop, on_movable=move)
    engine.hand_over()
    engine.adopt(server, arriving if arriving.residual else None)
    return await moved

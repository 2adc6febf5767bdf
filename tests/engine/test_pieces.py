"""When the pieces of a response go out: together where they follow each other at once, in order, and none late."""

import asyncio
import threading
from typing import Any

import anyio.to_thread
import pytest

from clusterd.http.asgi.answer import HELD_BYTES
from clusterd.http.settings import Interface
from tests.support.serving import PATIENCE, Serving, request, serving, wait_until

START = {"type": "http.response.start", "status": 200, "headers": []}
PIECE = 7000
PIECES = 12
"""Fewer than those after which others have their turn."""


def piece(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


class Application:
    """Sends pieces by path."""

    def __init__(self) -> None:
        self.go = threading.Event()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send(START)
        await getattr(self, scope["path"].strip("/"))(receive, send)

    async def small(self, receive: Any, send: Any) -> None:
        for number in range(PIECES):
            await send(piece(b"%02d" % number))
        await send(piece(b"", more=False))

    async def large(self, receive: Any, send: Any) -> None:
        for _ in range(3):
            await send(piece(bytes(HELD_BYTES)))
        await send(piece(b"", more=False))

    async def waits(self, receive: Any, send: Any) -> None:
        await send(piece(b"first"))
        await anyio.to_thread.run_sync(self.go.wait, PATIENCE)
        await send(piece(b"last", more=False))

    async def full(self, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.2)  # Reading pauses meanwhile, because the body is not taken.
        while (await receive())["type"] == "http.request":
            if not self.go.is_set():
                await send(piece(b"held while more is read"))
                self.go.set()

    async def slow_reader(self, receive: Any, send: Any) -> None:
        while not self.go.is_set():
            await send(piece(bytes(PIECE)))
            await asyncio.sleep(0)

    async def fails(self, receive: Any, send: Any) -> None:
        await send(piece(b"all there is"))
        raise LookupError("on purpose")


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
def server(application: Application) -> Any:
    with serving(application, interface=Interface.ASGI) as server:
        yield server


def test_small_pieces_that_follow_each_other_are_sent_together(server: Serving) -> None:
    """Each had a system call, and woke the client."""
    with server.client() as client:
        client.send(request("/small"))
        received = client.socket.recv(1 << 16)
        assert received.endswith(b"\r\n2\r\n11\r\n0\r\n\r\n")
        assert received.count(b"\r\n2\r\n") == PIECES


def test_a_piece_is_sent_when_the_application_waits(server: Serving, application: Application) -> None:
    with server.client() as client:
        client.send(request("/waits"))
        assert client.socket.recv(1 << 16).endswith(b"5\r\nfirst\r\n")
        application.go.set()
        assert client.socket.recv(1 << 16) == b"4\r\nlast\r\n0\r\n\r\n"


def test_large_pieces_and_what_an_application_sent_before_it_failed_arrive(server: Serving) -> None:
    with server.client() as client:
        assert client.get("/large").body == bytes(3 * HELD_BYTES)
    with server.client() as client:
        client.send(request("/fails"))
        assert client.rest().endswith(b"c\r\nall there is\r\n")
    assert "on purpose" in server.ledger.errors[0]


def test_a_request_that_turns_out_bad_while_pieces_are_held_is_answered_all_the_same(server: Serving) -> None:
    with server.client() as client:
        head = "POST /full HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.send(head.encode() + b"80000\r\n" + bytes(0x80000) + b"\r\nno chunk\r\n")
        assert client.rest().startswith(b"HTTP/1.1 ")


def test_no_piece_is_taken_while_the_client_does_not_read(server: Serving, application: Application) -> None:
    """What was then written after the kernel had no room looked as if the client had stopped reading."""
    with server.client() as client:
        client.send(request("/slow_reader"))
        wait_until(lambda: any(not each.writable for each in tuple(server.engine.connections)))
        (connection,) = server.engine.connections
        # The piece that did not fit, and none after it.
        assert server.on_loop(lambda: connection.unsent) <= PIECE + 10
        application.go.set()


def test_pieces_of_a_thread_arrive_all_and_in_their_order() -> None:
    """The loop takes as many at a time as the thread has produced."""
    pieces = [b"%05d" % number for number in range(20_000)]

    def wsgi(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return iter(pieces)

    with serving(wsgi, threads=2) as server, server.client() as client, server.client() as other:
        for each in (client, other):
            each.send(request())
        assert client.answer().body == other.answer().body == b"".join(pieces)


def test_a_piece_of_a_thread_is_sent_while_it_makes_the_next(application: Application) -> None:
    def wsgi(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        yield b"first"
        application.go.wait(PATIENCE)
        yield b"last"

    with serving(wsgi, threads=2) as server, server.client() as client:
        client.send(request())
        received = b""
        while not received.endswith(b"5\r\nfirst\r\n"):
            received += client.socket.recv(1 << 16)
        application.go.set()
        while not received.endswith(b"4\r\nlast\r\n0\r\n\r\n"):
            received += client.socket.recv(1 << 16)

"""Which connections another process could serve at any moment without asking this one.

Every test with an engine checks that none is said to be that is not (tests/support/serving.py).
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from clusterd.http.settings import Interface
from clusterd.wire.connection_state import CarriedState
from clusterd.wire.in_hand import PLACES
from tests.support.serving import Client, Serving, request, serving, wait_until

StartResponse = Callable[..., Any]

LARGE = 64 << 20


def application(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
    body = bytes(LARGE) if environ["PATH_INFO"] == "/large" else environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def count(server: Serving) -> int:
    return len(server.on_loop(server.movable))


def answered(server: Serving) -> Client:
    client = server.client()
    client.get("/")
    wait_until(lambda: count(server) == 1)
    return client


def test_a_connection_that_has_asked_nothing_yet_can_move() -> None:
    with serving(application) as server, server.client():
        wait_until(lambda: count(server) == 1)


@pytest.mark.parametrize("threads", [0, 1])
def test_a_connection_can_move_between_its_requests(threads: int) -> None:
    with serving(application, threads=threads) as server, answered(server) as client:
        for _ in range(3):
            client.get("/")
            wait_until(lambda: count(server) == 1)
        client.socket.shutdown(socket.SHUT_WR)
        wait_until(lambda: count(server) == 0)


@pytest.mark.parametrize(
    ("begin", "rest"),
    [
        (b"G", b"ET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        (b"\r\nGET / HTTP/1.1\r\n", b"Host: x\r\n\r\n"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab", b"cd"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na", b"b\r\n0\r\n\r\n"),
    ],
    ids=["head", "lines", "body", "chunk"],
)
def test_a_connection_with_a_part_of_a_request_cannot_move(begin: bytes, rest: bytes) -> None:
    with serving(application) as server, answered(server) as client:
        client.send(begin)
        wait_until(lambda: count(server) == 0)
        client.send(rest)
        client.answer()
        wait_until(lambda: count(server) == 1)


def test_a_connection_with_a_part_of_the_next_request_cannot_move() -> None:
    with serving(application) as server, answered(server) as client:
        client.send(request("/") + b"GET / HT")
        client.answer()
        wait_until(lambda: count(server) == 0)
        client.send(b"TP/1.1\r\nHost: x\r\n\r\n")
        client.answer()
        wait_until(lambda: count(server) == 1)


def test_a_connection_whose_client_has_not_read_the_response_cannot_move() -> None:
    with serving(application) as server, answered(server) as client:
        client.send(request("/large"))
        wait_until(lambda: server.on_loop(lambda: [each.unsent for each in server.engine.connections if each.unsent]))
        wait_until(lambda: count(server) == 0)
        assert len(client.answer().body) == LARGE
        wait_until(lambda: count(server) == 1)


def test_a_connection_whose_client_a_proxy_has_named_cannot_move() -> None:
    with serving(application, trusted_proxies=("127.0.0.1",), proxy_protocol=True) as server, server.client() as client:
        client.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n")
        client.get("/")
        server.wait_for_rest()
        assert count(server) == 0


@pytest.mark.parametrize("named", [False, True])
def test_a_connection_that_was_passed_on_can_move_unless_a_proxy_has_named_its_client(*, named: bool) -> None:
    with (
        serving(application) as server,
        socket.create_server(("127.0.0.1", 0)) as listener,
        Client(socket.create_connection(listener.getsockname())) as client,
    ):
        passed, peer = listener.accept()
        carried = CarriedState(b"", ("192.0.2.1", 4711) if named else peer, passed.getsockname(), "http", 1)
        server.on_loop(lambda: server.engine.adopt(passed, carried))
        client.get("/")
        server.wait_for_rest()
        wait_until(lambda: count(server) == (0 if named else 1))


def test_a_request_beyond_those_in_hand_is_no_reason_to_move_its_connection() -> None:
    go = asyncio.Event()

    async def waits(scope: dict[str, Any], _: Any, send: Any) -> None:
        if scope["type"] == "http":
            if scope["path"] == "/wait":
                await go.wait()
            await send({"type": "http.response.start", "status": 204})
            await send({"type": "http.response.body"})

    with serving(waits, interface=Interface.ASGI) as server, ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(PLACES + 3)]
        for client in clients:
            client.get("/")
        wait_until(lambda: count(server) == len(clients))
        for client in clients:
            client.send(request("/wait"))
        wait_until(lambda: server.on_loop(lambda: server.engine.in_flight) == len(clients))
        assert count(server) == 0
        server.on_loop(go.set)
        for client in clients:
            client.answer()
        wait_until(lambda: count(server) == len(clients))

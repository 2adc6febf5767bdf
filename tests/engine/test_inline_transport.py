"""New connections: served before the loop knows of them, and moved in when something has to be waited for."""

import asyncio
import gc
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from clusterd.http.connections.connection import Connection
from clusterd.http.settings import Interface
from tests.support.certificates import make_certificate
from tests.support.serving import PATIENCE, Client, asked_before, request, serving, wait_until

HUGE = 8_000_000
LAST = "Connection: close"


SLOW_SECONDS = 0.1
"""Several times as long as a connection waits for its response before it enters the loop."""


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    body = environ["wsgi.input"].read()
    if environ["PATH_INFO"] == "/slow":
        time.sleep(SLOW_SECONDS)
    start_response("200 OK", [])
    return [b"x" * HUGE if environ["PATH_INFO"] == "/huge" else body or b"hello"]


async def asgi(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    body = (await receive())["body"]
    if scope["path"] == "/slow":
        await asyncio.sleep(SLOW_SECONDS)
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"x" * HUGE if scope["path"] == "/huge" else body or b"hello"})


@pytest.fixture(params=["wsgi", "wsgi in threads", "asgi"])
def start(request: pytest.FixtureRequest) -> Callable[..., Any]:
    if request.param == "asgi":
        return lambda **settings: serving(asgi, interface=Interface.ASGI, **settings)
    return lambda **settings: serving(wsgi, threads=2 * (request.param != "wsgi"), **settings)


@pytest.mark.parametrize("lines", [(), (LAST,)])
def test_a_request_that_is_here_already_is_answered(start: Callable[..., Any], lines: tuple[str, ...]) -> None:
    with start() as server, asked_before(server, request("/", *lines)) as client:
        assert client.answer().body == b"hello"
        if lines:
            assert client.rest() == b""
        else:
            assert client.get().body == b"hello"


@pytest.mark.parametrize("lines", [(), (LAST,)])
def test_a_connection_enters_the_loop_only_for_what_comes_after_its_response(
    start: Callable[..., Any], lines: tuple[str, ...]
) -> None:
    with start() as server, asked_before(server, request("/", *lines)) as client:
        assert client.answer().body == b"hello"
        wait_until(lambda: server.on_loop(lambda: bool(lines) == (not server.engine.load)))
        assert server.loop.entered == (0 if lines else 1)


@pytest.mark.parametrize("lines", [(), (LAST,)])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_one_whose_response_takes_longer_enters_before(
    start: Callable[..., Any], method: str, lines: tuple[str, ...]
) -> None:
    body = b"body" if method == "POST" else b""
    with start() as server, asked_before(server, request("/slow", *lines, method=method, body=body)) as client:
        assert client.answer().body == (body or b"hello")
        assert client.rest() == b"" if lines else client.get().body == b"hello"


@pytest.mark.parametrize(
    "start", [partial(serving, wsgi, threads=2), partial(serving, asgi, interface=Interface.ASGI)], ids=["wsgi", "asgi"]
)
def test_a_client_that_leaves_before_a_response_that_takes_long_is_counted(start: Callable[..., Any]) -> None:
    with start() as server:
        with server.client() as client:
            client.send(request("/slow"))
            wait_until(lambda: server.ledger.in_flight)
            client.reset()
        wait_until(lambda: server.ledger.aborts == 1)
        wait_until(lambda: server.on_loop(lambda: server.engine.is_idle))


def test_one_that_waits_for_its_response_is_handed_over_after_it() -> None:
    moved: list[Connection] = []
    kept = partial(serving, wsgi, threads=1, on_movable=moved.append)
    with kept() as server, asked_before(server, request("/slow")) as client:
        wait_until(lambda: server.ledger.in_flight)
        server.on_loop(server.engine.retirement.hand_over)
        assert client.answer().body == b"hello"
        wait_until(lambda: moved)
        assert moved[0].movable


def test_what_the_kernel_does_not_take_at_once_is_sent_later(start: Callable[..., Any]) -> None:
    for lines in ((), (LAST,)):
        with start() as server, asked_before(server, request("/huge", *lines)) as client:
            assert client.answer().body == b"x" * HUGE
            if not lines:
                assert client.get().body == b"hello"


def test_pipelined_requests_and_half_of_one_more(start: Callable[..., Any]) -> None:
    whole = request(method="POST", body=b"one") + request("/huge") + request(method="POST", body=b"two")
    with start() as server, asked_before(server, whole + request()[:-2]) as client:
        assert [client.answer().body for _ in range(3)] == [b"one", b"x" * HUGE, b"two"]
        client.send(f"{LAST}\r\n\r\n".encode())
        assert client.answer().body == b"hello"


def test_a_long_body_is_read_on_when_it_has_moved_in(start: Callable[..., Any]) -> None:
    body = bytes(range(256)) * 2000
    with start() as server, asked_before(server, request(method="POST", body=body)) as client:
        answered = client.answer().body
        assert body.startswith(answered) and answered


def test_a_client_that_has_gone_costs_nothing(start: Callable[..., Any]) -> None:
    with start() as server:
        for data in (b"", request("/huge"), request()[:-2]):
            ours, theirs = socket.socketpair(socket.AF_UNIX)
            ours.sendall(data)
            ours.close()
            server.on_loop(lambda sock=theirs: server.engine.adopt(sock))
        wait_until(lambda: not server.engine.load)
        with server.client() as client:
            assert client.get().body == b"hello"


def test_a_client_that_half_closes_is_answered(start: Callable[..., Any]) -> None:
    with start() as server:
        ours, theirs = socket.socketpair(socket.AF_UNIX)
        ours.settimeout(PATIENCE)
        ours.sendall(request("/huge"))
        ours.shutdown(socket.SHUT_WR)
        server.on_loop(lambda: server.engine.adopt(theirs))
        with Client(ours) as client:
            assert client.answer().body == b"x" * HUGE
            assert client.rest() == b""


def test_a_refusal_is_read_by_a_client_that_goes_on_sending(start: Callable[..., Any]) -> None:
    bad = b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"
    with start() as server, asked_before(server, bad + b"x" * 3_000_000) as client:
        assert client.answer().status == 400


def test_a_request_that_is_here_is_answered_where_idle_connections_are_closed(start: Callable[..., Any]) -> None:
    with start() as server:
        server.on_loop(server.engine.retirement.close)

        def adopt_and_close_idle(sock: socket.socket) -> None:
            server.engine.adopt(sock)
            server.loop.call_soon(server.engine.retirement.close_idle)

        with asked_before(server, request(), adopt_and_close_idle) as client, asked_before(server, b"") as idle:
            assert client.answer().fields["connection"] == "close"
            assert client.rest() == b""
            wait_until(lambda: server.on_loop(server.engine.retirement.close_idle) or not server.engine.load)
            assert idle.rest() == b""


def test_while_it_moves_in_it_can_be_dropped(start: Callable[..., Any]) -> None:
    with start() as server:
        ours, theirs = socket.socketpair(socket.AF_UNIX)
        ours.settimeout(PATIENCE)

        def adopt_and_abort() -> None:
            server.engine.adopt(theirs)
            server.loop.call_soon(lambda: [each.abort() for each in server.engine.connections])

        server.on_loop(adopt_and_abort)
        assert ours.recv(1) == b""
        ours.close()
        wait_until(lambda: not server.engine.load)


@pytest.fixture
def default_timeout() -> Iterator[None]:
    """What applications set that ask others over the network."""
    socket.setdefaulttimeout(PATIENCE)
    yield
    socket.setdefaulttimeout(None)


@pytest.mark.usefixtures("default_timeout")
def test_a_default_timeout_of_the_application_has_nobody_wait(start: Callable[..., Any]) -> None:
    with start() as server, server.client() as silent:
        wait_until(lambda: server.ledger.connections)  # not before the server has given up waiting for it
        started = time.monotonic()
        with server.client() as client:
            assert client.get().body == b"hello"
            assert client.get("/huge").body == b"x" * HUGE
        assert silent.get().body == b"hello"
        assert time.monotonic() - started < PATIENCE / 2


@pytest.mark.parametrize("secure", [False, True])
def test_connections_leave_nothing_for_the_garbage_collector(
    start: Callable[..., Any], secure: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    certificate = make_certificate(tmp_path_factory.mktemp("certificate")) if secure else None
    with start(tls=certificate.server() if certificate else None) as server:
        gc.collect()
        gc.disable()
        try:
            for lines in ((LAST,), ()) * 3:
                sock: socket.socket = socket.create_connection(server.address[:2], PATIENCE)
                if certificate:
                    sock = certificate.client().wrap_socket(sock, server_hostname="shop.example")
                with Client(sock) as client:
                    assert client.get("/", *lines).body == b"hello"
            wait_until(lambda: not server.engine.load)
            wait_until(lambda: not any(isinstance(each, Connection) for each in gc.get_objects()))
        finally:
            gc.enable()

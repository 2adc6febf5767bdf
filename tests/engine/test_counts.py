"""What the engine counts of its requests and connections, whatever calls the application."""

import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from clusterd.http.settings import Interface
from tests.support.frames import HANDSHAKE
from tests.support.serving import PATIENCE, Client, Serving, request, serving, wait_until

Asked = Callable[[str], object]


class Application:
    """Answers "ok" in each of the three ways, and calls `asked` with the path before."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    def wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self._asked(environ["PATH_INFO"])
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    async def asgi(self, scope: dict[str, Any], _: Any, send: Any) -> None:
        if scope["type"] == "http":
            self._asked(scope["path"])
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})

    def settings(self, way: str) -> tuple[Any, dict[str, Any]]:
        if way == "asgi":
            return self.asgi, {"interface": Interface.ASGI}
        return self.wsgi, {"threads": 1 if way == "threads" else 0}


WAYS = pytest.mark.parametrize("way", ["loop", "threads", "asgi"])


def nothing(_: str) -> None:
    """What the application does beside answering."""


def serve(way: str, asked: Asked = nothing, **settings: Any) -> Any:
    application, own = Application(asked).settings(way)
    return serving(application, **own, **settings)


@WAYS
def test_a_request_is_in_flight_before_the_application_can_block_the_loop(way: str) -> None:
    seen: list[tuple[int, int]] = []
    with serve(way, lambda _: seen.append((server.ledger.in_flight, server.ledger.jobs))) as server:
        with server.client() as client:
            for _ in range(3):
                assert client.get().status == 200
        assert seen == [(1, 1 if way == "threads" else 0)] * 3


@WAYS
@pytest.mark.parametrize(
    ("sent", "reason", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "bad_request", 400),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", "bad_request", 505),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", "bad_request", 501),
        (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: more\r\nContent-Length: 1\r\n\r\n", "bad_request", 417),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", "limits", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"a" * 70_000 + b"\r\n\r\n", "limits", 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999\r\n\r\n", "limits", 413),
    ],
)
def test_what_is_refused_is_told_apart_and_has_no_duration(way: str, sent: bytes, reason: str, status: int) -> None:
    with serve(way) as server, server.client() as client:
        client.send(sent)
        assert client.answer().status == status
        wait_until(lambda: server.ledger.done)  # The response is counted as soon as it was written.
        assert server.ledger.refused == {reason: 1}
        assert server.ledger.done == [status]
        assert server.ledger.waited == []


@WAYS
def test_a_chunk_that_is_malformed_is_refused_where_the_application_has_not_answered(way: str) -> None:
    with serve(way) as server, server.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n")
        client.rest()
        wait_until(lambda: server.ledger.done)
        assert server.ledger.in_flight == 0


def test_a_full_queue_and_a_long_wait_in_it_are_refusals_and_the_second_is_a_timeout() -> None:
    go_on = threading.Event()
    limits = {"queue": 1}
    with (
        serve("threads", lambda _: go_on.wait(PATIENCE), limits=limits, timeouts={"queue": 0.5}) as server,
        server.client() as running,
        server.client() as waiting,
        server.client() as surplus,
    ):
        running.send(request())
        wait_until(lambda: server.ledger.jobs == 1)
        waiting.send(request())
        wait_until(lambda: server.ledger.jobs == 2)
        assert surplus.get().status == 503
        assert waiting.answer().status == 503
        wait_until(lambda: len(server.ledger.done) == 2)
        assert server.ledger.refused == {"queue_full": 1, "queue_timeout": 1}
        assert server.ledger.timeouts == {"queue": 1}
        go_on.set()
        assert running.answer().status == 200
        wait_until(lambda: len(server.ledger.done) == 3)
        assert len(server.ledger.waited) == 1


def test_a_connection_beyond_the_limit_is_refused_and_its_answer_is_counted_when_it_is_sent() -> None:
    with serve("loop") as server:
        server.has_no_room = True
        with server.client() as client:
            wait_until(lambda: server.ledger.refused)
            assert (server.ledger.refused, server.ledger.done) == ({"connections": 1}, [])
            assert client.get().status == 503
            wait_until(lambda: server.ledger.done == [503])


def test_the_wait_for_a_thread_is_apart_from_the_time_that_the_application_takes() -> None:
    go_on = threading.Event()
    with serve("threads", lambda path: path == "/first" and go_on.wait(PATIENCE)) as server:
        with server.client() as first, server.client() as second:
            first.send(request("/first"))
            wait_until(lambda: server.ledger.jobs == 1)
            before = time.monotonic()
            second.send(request("/second"))
            wait_until(lambda: server.ledger.jobs == 2)
            queued = time.monotonic()
            threading.Event().wait(0.05)
            released = time.monotonic()
            go_on.set()
            assert (first.answer().status, second.answer().status) == (200, 200)
            wait_until(lambda: len(server.ledger.waited) == 2)
            ended = time.monotonic()
        assert released - queued <= server.ledger.waited[1] <= ended - before


@WAYS
def test_every_request_that_reaches_the_application_has_waited_for_it(way: str) -> None:
    with serve(way) as server, server.client() as client:
        for _ in range(5):
            assert client.get().status == 200
        assert client.get(method="POST", body=b"some").status == 200
        wait_until(lambda: len(server.ledger.waited) == 6)


@pytest.mark.parametrize("way", ["threads", "asgi"])
def test_a_request_that_takes_too_long_is_a_timeout_and_no_refusal(way: str) -> None:
    go_on = threading.Event()

    async def late(scope: dict[str, Any], receive: Any, _: Any) -> None:
        if scope["type"] == "http":
            await receive()
            await receive()

    application, own = Application(lambda _: go_on.wait(PATIENCE)).settings(way)
    called = late if way == "asgi" else application
    with serving(called, timeouts={"request": 0.1}, **own) as server, server.client() as client:
        assert client.get().status == 504
        assert (server.ledger.timeouts, server.ledger.refused) == ({"request": 1}, {})
        go_on.set()


def held(server: Serving, client: Client) -> None:
    """Have a request of `client` in flight."""
    client.send(request())
    wait_until(lambda: server.ledger.in_flight == 1)


def test_a_client_that_leaves_before_its_answer_has_aborted_and_one_that_is_dropped_has_not() -> None:
    go_on = threading.Event()
    with serve("threads", lambda _: go_on.wait(PATIENCE)) as server:
        with server.client() as client:
            held(server, client)
            client.reset()
        wait_until(lambda: server.ledger.aborts == 1)
        go_on.set()
        with server.client() as client:
            assert client.get().status == 200
    with serve("threads", lambda _: go_on.wait(PATIENCE)) as server:
        go_on.clear()
        with server.client() as client:
            held(server, client)
            server.on_loop(server.engine.abort)
            wait_until(lambda: not server.ledger.connections)
            go_on.set()
        assert (server.ledger.aborts, server.ledger.done) == (0, [499])


@pytest.mark.parametrize("begins", [True, False])
def test_a_client_that_leaves_has_aborted_although_the_application_ends_its_call(begins: bool) -> None:
    async def application(_: dict[str, Any], receive: Any, send: Any) -> None:
        if begins:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    with serving(application, interface=Interface.ASGI) as server, server.client() as client:
        client.send(request())
        if begins:
            client.answer_head()
        client.socket.shutdown(socket.SHUT_WR)
        client.rest()
        wait_until(lambda: server.ledger.done)
        assert (server.ledger.aborts, server.ledger.done) == (1, [499])


def test_a_client_that_closes_before_its_websocket_is_accepted_has_aborted() -> None:
    async def application(_: dict[str, Any], receive: Any, __: Any) -> None:
        while (await receive())["type"] != "websocket.disconnect":
            pass

    with serving(application, interface=Interface.ASGI) as server, server.client() as client:
        client.send(request("/", *HANDSHAKE))
        wait_until(lambda: server.ledger.in_flight == 1)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.rest() == b""
        wait_until(lambda: server.ledger.done)
        assert (server.ledger.aborts, server.ledger.done) == (1, [499])


@WAYS
def test_a_client_that_leaves_within_its_upload_has_aborted(way: str) -> None:
    with serve(way) as server:
        with server.client() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
            if way != "asgi":
                wait_until(lambda: server.ledger.in_flight == 1)
                client.reset()
                wait_until(lambda: server.ledger.aborts == 1)
        wait_until(lambda: not server.ledger.connections)
        assert server.ledger.in_flight == 0


@WAYS
def test_bytes_are_counted_as_they_are_in_http(way: str) -> None:
    with serve(way) as server, server.client() as client:
        client.send(request("/", "Connection: close", method="POST", body=b"some"))
        answer = client.rest()
        assert answer.endswith(b"\r\n\r\nok")
        context = server.engine.context
        assert (context.received, context.sent) == (
            len(request("/", "Connection: close", method="POST", body=b"some")),
            len(answer),
        )

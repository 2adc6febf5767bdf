"""What the fuzzer and a hostile reading of the engine found: each of these failed before it was mended."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from clusterd.http.settings import Interface
from tests.support.serving import request, serving, wait_until

Start = Callable[..., Any]
Receive = Callable[..., Any]
BOTH = pytest.mark.parametrize("interface", [Interface.WSGI, Interface.ASGI])


def wsgi(environ: dict[str, Any], start_response: Start) -> list[bytes]:
    body = repr(sorted(name for name in environ if name.startswith("HTTP_X"))).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope: dict[str, Any], receive: Receive, send: Receive) -> None:
    body = repr(sorted(name.decode() for name, _ in scope["headers"] if name.startswith(b"x"))).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


APPLICATIONS = {Interface.WSGI: wsgi, Interface.ASGI: asgi}


@BOTH
def test_connect_is_no_request_whatever_its_target(interface: Interface) -> None:
    with serving(APPLICATIONS[interface], 0, interface=interface) as server, server.client() as client:
        client.send(request("/", method="CONNECT") + request("/tunnelled"))
        assert client.answer().status == 501
        assert client.rest() == b""


@BOTH
def test_a_target_without_a_host_is_refused(interface: Interface) -> None:
    with serving(APPLICATIONS[interface], 0, interface=interface) as server, server.client() as client:
        assert client.get("http://:80/").status == 400


def test_nobody_is_told_to_go_on_within_a_response() -> None:
    async def late_reader(scope: dict[str, Any], receive: Receive, send: Receive) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"8")]})
        await send({"type": "http.response.body", "body": b"four", "more_body": True})
        message = await receive()
        await send({"type": "http.response.body", "body": message["body"]})

    with serving(late_reader, interface=Interface.ASGI) as server, server.client() as client:
        client.send(request("/", "Expect: 100-continue", "Content-Length: 4", method="POST"))
        head = client.answer_head()
        assert head.fields["connection"] == "close"
        client.send(b"more")
        assert client.rest() == b"fourmore"


@pytest.mark.parametrize("ending", [b"\r", b"\r\n\r"])
def test_half_an_empty_line_after_a_request_is_no_beginning_of_the_next(ending: bytes) -> None:
    with serving(wsgi, timeouts={"header": 0.1, "keepalive": 0.3}) as server, server.client() as client:
        assert client.get().status == 200
        client.send(ending)
        assert client.rest() == b""  # closed as idle, and not answered 408
        assert server.ledger.timeouts == {"keepalive": 1}


def test_a_client_that_sends_thousands_of_requests_at_once_does_not_keep_the_loop_to_itself() -> None:
    answered: list[str] = []
    go = threading.Event()

    def slow(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        answered.append(environ["PATH_INFO"])
        assert go.wait(20)
        time.sleep(0.002)
        return wsgi(environ, start_response)

    with serving(slow, 0) as server, server.client() as greedy, server.client() as other:
        wait_until(lambda: len(server.engine.connections) == 2)
        greedy.send(request("/greedy") * 2000)
        wait_until(lambda: answered)
        other.send(request("/other"))
        go.set()
        assert other.answer().status == 200
        # Several turns may pass until the request of the other is read, but not two thousand requests.
        assert answered.index("/other") < 500
        for _ in range(2000):
            assert greedy.answer().status == 200


def test_thousands_of_requests_at_once_are_all_answered_to_a_client_that_half_closes() -> None:
    with serving(wsgi, 0) as server, server.client() as client:

        def send() -> None:
            client.send(request("/") * 3000)
            client.socket.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        assert client.rest().count(b"HTTP/1.1 200 OK") == 3000
        sender.join()
        wait_until(lambda: not server.engine.connections)


def test_half_a_body_before_the_end_is_not_waited_for_after_an_earlier_response() -> None:
    go = threading.Event()
    called: list[str] = []

    async def waiting(scope: dict[str, Any], receive: Receive, send: Receive) -> None:
        called.append(scope["path"])
        await asyncio.get_running_loop().run_in_executor(None, go.wait)
        while (await receive())["more_body"]:
            pass
        await asgi(scope, receive, send)

    with serving(waiting, interface=Interface.ASGI) as server, server.client() as client:
        client.socket.settimeout(5)
        client.send(request("/first") + request("/half", "Content-Length: 10", method="POST") + b"half")
        client.socket.shutdown(socket.SHUT_WR)
        wait_until(lambda: any(each.half_closed for each in tuple(server.engine.connections)))
        go.set()
        assert client.answer().status == 200
        assert client.rest() == b""
        assert called == ["/first"]

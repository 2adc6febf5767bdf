"""The engine over real sockets, with the application in threads and on the loop."""

import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.validate import validator

import pytest

from clusterd.http.settings import AccessLog
from tests.support.serving import PATIENCE, Client, Serving, serving, wait_until

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]

BIG = 24 * 1024 * 1024


def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A bit of everything, by path."""
    path = environ["PATH_INFO"]
    plain = [("Content-Type", "text/plain")]
    if path == "/echo":
        body = environ["wsgi.input"].read()
        start_response("200 OK", [*plain, ("Content-Length", str(len(body)))])
        return [body]
    if path == "/length":
        body = environ["wsgi.input"].read(1 << 40)
        start_response("200 OK", plain)
        return [f"{len(body)} {environ.get('CONTENT_LENGTH')}".encode()]
    if path == "/stream":
        start_response("200 OK", plain)
        return (piece for piece in (b"one ", b"", b"two ", b"three"))
    if path == "/big":
        start_response("200 OK", plain)
        return (bytes(65536) for _ in range(BIG // 65536))
    if path == "/write":
        write = start_response("200 OK", plain)
        write(b"written ")
        return [b"and ", b"returned"]
    if path == "/fail":
        raise LookupError("on purpose")
    if path == "/fail-late":
        start_response("200 OK", plain)
        return failing()
    if path == "/inject":
        start_response("200 OK", [*plain, ("X-A", "b\r\nX-Evil: 1")])
        return [b""]
    if path == "/short":
        start_response("200 OK", [*plain, ("Content-Length", "10")])
        return [b"short"]
    if path == "/long":
        start_response("200 OK", [*plain, ("Content-Length", "4")])
        return [b"long", b"er than said"]
    if path == "/file":
        file = tempfile.TemporaryFile()  # noqa: SIM115 - close() is the server's
        file.write(b"f" * 200_000)
        file.seek(0)
        start_response("200 OK", plain)
        return environ["wsgi.file_wrapper"](file)  # type: ignore[no-any-return]
    if path == "/no-content":
        start_response("204 No Content", [])
        return []
    start_response("200 OK", plain)
    return [f"hello {environ['QUERY_STRING']}".encode()]


def failing() -> Iterator[bytes]:
    yield b"first"
    raise LookupError("late, on purpose")


@pytest.fixture(params=[0, 4], ids=["loop", "threads"])
def server(request: pytest.FixtureRequest) -> Iterator[Serving]:
    with serving(application, threads=request.param, limits={"body": 64 << 20}) as server:
        yield server


def get(path: str, *fields: str, version: str = "1.1") -> bytes:
    lines = [f"GET {path} HTTP/{version}", "Host: test", *fields]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


LAST = "Connection: close"


def answers(responses: bytes) -> list[bytes]:
    return re.findall(rb"hello (\w+?)(?=HTTP|$)", responses)


def exchange(client: Client, data: bytes) -> bytes:
    """Send, and read until the server closes."""
    client.send(data)
    return client.rest()


def body_of(response: bytes) -> bytes:
    return response.partition(b"\r\n\r\n")[2]


def test_keep_alive_and_pipelining_in_order(server: Serving) -> None:
    requests = b"".join(get(f"/?{number}") for number in range(50)) + get("/?last", LAST)
    with server.client() as client:
        response = exchange(client, requests)
    assert answers(response) == [str(n).encode() for n in range(50)] + [b"last"]
    assert response.count(b"Connection: close") == 1
    wait_until(lambda: server.ledger.done == [200] * 51)


def test_a_request_byte_by_byte_and_an_empty_line_before_it(server: Serving) -> None:
    with server.client() as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"\r\n\r\n" + get("/?slow", LAST):
            client.send(bytes([byte]))
        assert body_of(client.rest()) == b"hello slow"


def test_half_closed_clients_are_answered(server: Serving) -> None:
    with server.client() as client:
        client.send(get("/?1") + get("/?2"))
        client.socket.shutdown(socket.SHUT_WR)
        assert answers(client.rest()) == [b"1", b"2"]


def test_pipelined_requests_of_a_half_closed_client_are_all_answered() -> None:
    release = threading.Event()

    def waiting(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        assert release.wait(20)
        start_response("200 OK", [])
        return [b"hello " + environ["QUERY_STRING"].encode()]

    with serving(waiting, threads=1) as server, server.client() as client:
        client.send(get("/?1") + get("/?2") + get("/?3"))
        client.socket.shutdown(socket.SHUT_WR)
        wait_until(lambda: server.on_loop(lambda: any(each.half_closed for each in server.engine.connections)))
        release.set()
        assert answers(client.rest()) == [b"1", b"2", b"3"]


def test_a_client_that_reset_before_it_was_accepted(server: Serving) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = Client(socket.create_connection(listener.getsockname()))
        accepted, _ = listener.accept()
        client.reset()
        with pytest.raises(OSError, match="not connected"):
            accepted.getpeername()
    server.on_loop(lambda: server.engine.adopt(accepted))
    wait_until(lambda: server.on_loop(lambda: server.engine.load == 0))
    with server.client() as client:
        assert body_of(exchange(client, get("/?next", LAST))) == b"hello next"


def test_http_1_0(server: Serving) -> None:
    with server.client() as client:
        assert body_of(exchange(client, get("/stream", version="1.0"))) == b"one two three"
    with server.client() as client:
        response = exchange(client, get("/?1", "Connection: keep-alive", version="1.0") + get("/?2", version="1.0"))
    assert b"Connection: keep-alive" in response
    assert answers(response) == [b"1", b"2"]


def test_chunked_both_ways(server: Serving) -> None:
    with server.client() as client:
        response = exchange(
            client,
            b"POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n" + get("/stream", LAST),
        )
    first, second = response.split(b"HTTP/1.1 ")[1:]
    assert body_of(first) == b"11 11"
    assert body_of(second) == b"4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\n\r\n"


def test_an_upload_comes_back(server: Serving) -> None:
    sent = os.urandom(5_000_000)
    with server.client() as client:
        head = f"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {len(sent)}\r\n{LAST}\r\n\r\n"
        writer = threading.Thread(target=client.send, args=(head.encode() + sent,))
        writer.start()
        response = client.rest()
        writer.join()
    assert body_of(response) == sent


def test_a_download_whose_reader_pauses(server: Serving) -> None:
    with server.client() as client, server.client() as other:
        client.send(get("/big", LAST))
        assert client.socket.recv(1)
        assert body_of(exchange(other, get("/?beside", LAST))) == b"hello beside"
        received = len(client.rest())
    assert received > BIG


def test_100_continue(server: Serving) -> None:
    with server.client() as client:
        head = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"
        client.send(head + b"Expect: 100-continue\r\nConnection: close\r\n\r\n")
        assert client.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert body_of(exchange(client, b"hi")) == b"hi"


def test_no_body_where_none_belongs(server: Serving) -> None:
    with server.client() as client:
        requests = get("/no-content") + get("/?x").replace(b"GET", b"HEAD") + get("/?y", LAST)
        responses = exchange(client, requests).split(b"HTTP/1.1 ")[1:]
    assert [response[:3] for response in responses] == [b"204", b"200", b"200"]
    assert [body_of(response) for response in responses] == [b"", b"", b"hello y"]
    assert b"Content-Length: 7" in responses[1]
    assert b"Content-Length" not in responses[0]


@pytest.mark.parametrize("path", ["/fail", "/inject"])
def test_an_error_is_a_500_and_logged(server: Serving, path: str) -> None:
    with server.client() as client:
        responses = exchange(client, get(path) + get("/?after", LAST)).split(b"HTTP/1.1 ")[1:]
    assert [response[:3] for response in responses] == [b"500", b"200"]
    assert b"Evil" not in responses[0]
    wait_until(lambda: server.ledger.errors)
    assert "Traceback" in server.ledger.errors[0]


def test_what_can_not_be_completed_is_cut(server: Serving) -> None:
    with server.client() as client:
        response = exchange(client, get("/fail-late") + get("/?never"))
    assert b"first" in response
    assert not response.endswith(b"0\r\n\r\n")
    assert b"never" not in response
    with server.client() as client:
        assert body_of(exchange(client, get("/short") + get("/?never"))) == b"short"


def test_what_is_too_much_never_reaches_the_next_response(server: Serving) -> None:
    with server.client() as client:
        responses = exchange(client, get("/long") + get("/?after", LAST)).split(b"HTTP/1.1 ")[1:]
    assert [body_of(response) for response in responses] == [b"long", b"hello after"]


def test_write_and_files(server: Serving) -> None:
    with server.client() as client:
        assert body_of(exchange(client, get("/write", version="1.0"))) == b"written and returned"
    with server.client() as client:
        assert body_of(exchange(client, get("/file", version="1.0"))) == b"f" * 200_000


def test_refusals_close_politely(server: Serving) -> None:
    with server.client() as client:
        response = exchange(client, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n" + bytes(100_000))
    assert response.startswith(b"HTTP/1.1 413 ")
    assert b"Connection: close" in response
    wait_until(lambda: server.ledger.done == [413])


@pytest.mark.parametrize("threads", [0, 4])
def test_wsgiref_finds_nothing(threads: int) -> None:
    def plain(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(5)
        assert list(environ["wsgi.input"]) == [b"\n", b"next\n"]
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        return [body]

    with serving(validator(plain), threads=threads) as server, server.client() as client:
        request = b"POST /a?b HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 11\r\n\r\nhello\nnext\n"
        response = exchange(client, request)
        assert server.ledger.errors == []
        assert body_of(response) == b"hello"


def test_a_full_queue_is_answered_503_and_a_client_gone_from_it_is_not_served() -> None:
    release = threading.Event()
    served: list[str] = []

    def waiting(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        served.append(environ["PATH_INFO"])
        assert release.wait(20)
        start_response("200 OK", [])
        return [b"done"]

    with serving(waiting, threads=1, limits={"queue": 1}) as server:
        first, second, third = server.client(), server.client(), server.client()
        with first, second, third:
            first.send(get("/first", LAST))
            assert server.on_loop(lambda: None) is None
            wait_until(lambda: server.on_loop(lambda: server.engine.runners.busy == 1))
            second.send(get("/second", LAST))
            wait_until(lambda: server.on_loop(lambda: server.engine.runners.waiting == 1))
            response = exchange(third, get("/third", LAST))
            assert response.startswith(b"HTTP/1.1 503 ")
            assert b"Retry-After" in response
            assert not server.engine.runners.free
            # A reset: after a mere end of file it may still want its answer.
            second.reset()
            wait_until(lambda: server.on_loop(lambda: server.engine.runners.waiting == 0))
            release.set()
            assert body_of(first.rest()) == b"done"
            assert served == ["/first"]
            wait_until(lambda: server.ledger.connections == 0)
            assert sorted(server.ledger.done) == [200, 499, 503]


@pytest.mark.parametrize(
    ("sent", "answered", "kind"),
    [
        (b"", b"", "keepalive"),
        (b"GET / HT", b"408", "header"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf", b"408", "body"),
    ],
    ids=["nothing", "head", "body"],
)
def test_slow_requests_time_out(sent: bytes, answered: bytes, kind: str) -> None:
    timeouts = {"keepalive": 0.1, "header": 0.1, "body": 0.1}
    with serving(application, threads=1, timeouts=timeouts) as server, server.client() as client:
        assert exchange(client, sent)[9:12] == answered
        assert server.ledger.timeouts == {kind: 1}
        assert not server.ledger.refused


@pytest.mark.parametrize("threads", [0, 2])
def test_a_reader_that_stalls_is_cut_off_and_the_application_closed(threads: int) -> None:
    closed = threading.Event()

    def endless(_: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            while True:
                yield bytes(65536)
        finally:
            closed.set()

    with serving(endless, threads=threads, timeouts={"write": 0.1}) as server, server.client() as client:
        client.send(get("/"))
        assert closed.wait(10)
        wait_until(lambda: server.ledger.connections == 0)
        assert server.ledger.timeouts == {"write": 1}
        assert server.ledger.aborts == 0


def test_an_application_is_never_far_ahead_of_its_client() -> None:
    given = 0
    stalled = threading.Event()

    def pieces() -> Iterator[bytes]:
        nonlocal given
        while not stalled.is_set():
            given += 512
            yield bytes(512)

    def endless(_: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        return pieces()

    with serving(endless, threads=1) as server, server.client() as client:
        client.send(get("/"))
        wait_until(lambda: server.on_loop(lambda: any(not each.writable for each in server.engine.connections)))
        for _ in range(50):
            unsent = server.on_loop(lambda: sum(each.unsent for each in server.engine.connections))
        stalled.set()
        assert unsent < 200_000


def test_closing_says_so_and_idle_connections_end_when_told() -> None:
    with serving(application, threads=1) as server, server.client() as idle, server.client() as busy:
        for client in (idle, busy):
            client.send(get("/"))
            assert b"Connection: close" not in client.socket.recv(1000)
        server.on_loop(server.engine.retirement.close)
        busy.send(get("/"))
        assert b"Connection: close" in busy.rest()
        server.wait_for_rest()
        server.on_loop(server.engine.retirement.close_idle)
        assert idle.rest() == b""


@pytest.mark.parametrize("how", ["drain", "stop", "keepalive"])
def test_a_request_that_waits_to_be_read_keeps_its_connection_open(how: str) -> None:
    """The loop was busy when it came, and finds it after the moment to close idle connections."""
    with serving(application, threads=1) as server, server.client() as client:
        client.send(get("/"))
        assert client.socket.recv(1000)

        def ask_and_close() -> None:
            client.send(get("/"))
            if how == "keepalive":
                for late in (1000.0, 1000.1):  # the first look forgives what the loop has kept waiting
                    server.engine.tick(time.monotonic() + late)
            else:
                server.engine.retirement.close_idle(*([time.monotonic()] if how == "drain" else []))

        server.on_loop(ask_and_close)
        assert client.socket.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_a_response_that_did_not_say_so_is_followed_by_one_that_does() -> None:
    """Its client may have the next request under way: to close on it would lose that."""
    goes_on = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield b"first"
        assert goes_on.wait(PATIENCE)
        yield b"second"

    def streams(_: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        return pieces()

    with serving(streams, threads=1) as server, server.client() as client:
        client.send(get("/"))
        assert "connection" not in client.answer_head().fields
        server.on_loop(server.engine.retirement.close)
        goes_on.set()
        assert [client.chunk() for _ in range(3)] == [b"first", b"second", b""]
        wait_until(lambda: not server.engine.in_flight)
        client.send(get("/"))
        assert client.answer().fields["connection"] == "close"
        assert client.rest() == b""


def test_the_access_log() -> None:
    with serving(application, threads=1, access_log=AccessLog.ALL) as server, server.client() as client:
        exchange(client, get("/?logged", LAST))
        wait_until(lambda: server.ledger.requests)
        assert server.ledger.requests[0]["target"] == "/?logged"
        assert server.ledger.requests[0]["status"] == 200


def test_the_life_of_a_connection_is_told_to_those_who_debug() -> None:
    with serving(application, threads=1) as server:
        server.ledger.is_debugging = True
        server.on_loop(lambda: server.engine.tick(time.monotonic()))
        with server.client() as client:
            client.send(get("/", LAST))
            assert client.rest()
        wait_until(lambda: not server.engine.load)
        assert server.ledger.details == ["connection opened", "connection closing both sides", "connection closed"]

"""What HTTP/1.1 and PEP 3333 promise, over sockets, with the application on the loop and in threads."""

import io
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest

from tests.support.serving import Client, request, serving, wait_until

Start = Callable[..., Any]


@pytest.fixture(params=[0, 4])
def threads(request: pytest.FixtureRequest) -> int:
    return int(request.param)


class Closing:
    def __init__(self, parts: Iterator[bytes], closed: threading.Event) -> None:
        self._context = parts
        self.closed = closed

    def __iter__(self) -> Iterator[bytes]:
        return self._context

    def close(self) -> None:
        self.closed.set()


def application(environ: dict[str, Any], start_response: Start) -> Any:
    path, stdin = environ["PATH_INFO"], environ["wsgi.input"]
    plain = [("Content-Type", "text/plain")]
    if path == "/before":
        raise LookupError("before")
    if path == "/injected":
        start_response("200 OK", [*plain, ("X", "a\r\nSet-Cookie: b")])
    elif path == "/status":
        start_response(f"{environ['QUERY_STRING']} Status", [])
        return []
    elif path == "/short":
        start_response("200 OK", [*plain, ("Content-Length", "10")])
        return [b"short"]
    elif path == "/long":
        start_response("200 OK", [*plain, ("Content-Length", "4")])
        return [b"long", b"er"]
    elif path == "/write":
        start_response("200 OK", plain)(b"written ")
        return [b"returned"]
    elif path == "/file":
        start_response("200 OK", plain)
        return environ["wsgi.file_wrapper"](io.BytesIO(b"f" * 200_000))
    elif path == "/retry":
        start_response("200 OK", plain)
        try:
            raise LookupError("first")
        except LookupError as error:
            start_response("503 Later", plain, (type(error), error, error.__traceback__))
        return [b"later"]
    elif path == "/chunks":
        start_response("200 OK", plain)
        return iter([b"one", b"", b"two"])
    elif path == "/lines":
        start_response("200 OK", plain)
        return [b"|".join([stdin.read(2), stdin.readline(), *stdin])]
    elif path == "/after":
        start_response("200 OK", plain)
        return after()
    else:
        start_response("200 OK", plain)
        return [path.encode() + stdin.read(-1)]
    return [b""]


def after() -> Iterator[bytes]:
    yield b"some"
    raise LookupError("after")


def test_answers_of_every_kind_on_one_connection(threads: int) -> None:
    with serving(application, threads) as server, server.client() as client:
        assert client.get("/a").body == b"/a"
        assert client.get("/chunks").body == b"onetwo"
        assert client.get("/chunks", method="HEAD").body == b""
        assert client.get("/status?204").status == 204
        assert client.get("/status?304").status == 304
        assert client.get("/write").body == b"written returned"
        assert client.get("/file").body == b"f" * 200_000
        retried = client.get("/retry")
        assert (retried.status, retried.body) == (503, b"later")
        assert client.get("/long").body == b"long"
        assert client.get("/lines", method="POST", body=b"ab\nc\nd").body == b"ab|\n|c\n|d"
        assert client.get("/up", method="POST", body=b"x" * 300_000).body == b"/up" + b"x" * 300_000
        assert client.get("/before").status == 500
        assert client.get("/injected").status == 500
        # Logged on the loop's next turn, which the answer may overtake.
        wait_until(lambda: "LookupError: before" in "".join(server.ledger.errors))
        client.send(b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        assert client.answer().body == b"/cabc"
        client.send(request("/1") + request("/chunks") + request("/3"))
        assert [client.answer().body for _ in range(3)] == [b"/1", b"onetwo", b"/3"]


@pytest.mark.parametrize("path", ["/short", "/after"])
def test_an_incomplete_response_ends_its_connection(threads: int, path: str) -> None:
    with serving(application, threads) as server, server.client() as client:
        client.send(request(path) + request("/next"))
        answer = client.rest()
        assert not answer.endswith(b"0\r\n\r\n")
        assert b"/next" not in answer
        wait_until(lambda: server.ledger.errors)


def test_validator_has_nothing_to_say(threads: int) -> None:
    def plain(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["wsgi.input"].read(100)]

    with serving(validator(plain), threads) as server, server.client() as client:
        assert client.get("/", method="POST", body=b"hello").body == b"hello"
        assert client.get("/x%20y?z").status == 200
        assert not server.ledger.errors


def test_close_is_called_and_a_stream_is_pulled_only_while_it_is_read(threads: int) -> None:
    closed, pulled = threading.Event(), [0]

    def parts() -> Iterator[bytes]:
        while pulled[0] < 4000:
            pulled[0] += 1
            yield b"x" * 50_000

    def streaming(environ: dict[str, Any], start_response: Start) -> Closing:
        start_response("200 OK", [])
        return Closing(parts(), closed)

    with serving(streaming, threads) as server:
        with server.client() as client:
            client.send(request())
            client.socket.recv(1)
            wait_until(lambda: any(not each.writable for each in tuple(server.engine.connections)))
            assert pulled[0] < 1000
        assert closed.wait(10)
        wait_until(lambda: not server.engine.connections)


def test_a_client_that_expects_100_is_told_to_go_on(threads: int) -> None:
    with serving(application, threads) as server, server.client() as client:
        client.send(request("/e", "Expect: 100-continue", "Content-Length: 2", method="POST"))
        assert client.answer().status == 100
        client.send(b"ok")
        assert client.answer().body == b"/eok"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n", 408),
        (request("/", "Content-Length: 5", method="POST"), 408),
        (request("/", "Content-Length: 99999999", method="POST"), 413),
        (request("/" + "a" * 9000), 414),
        (request("/", "X: " + "a" * 40_000), 431),
        (request("/", "Expect: magic"), 417),
        (b"hello\r\n\r\n", 400),
    ],
)
def test_limits_and_timeouts(sent: bytes, status: int) -> None:
    with serving(application, timeouts={"header": 0.1, "body": 0.1}) as server, server.client() as client:
        client.send(sent)
        answer = client.answer()
        assert (answer.status, answer.fields["connection"]) == (status, "close")
        assert client.rest() == b""


def test_too_many_waiting_requests_are_told_to_come_back() -> None:
    go = threading.Event()

    def blocking(environ: dict[str, Any], start_response: Start) -> Any:
        assert go.wait(20)
        return application(environ, start_response)

    with serving(blocking, 1, limits={"queue": 0}) as server, server.client() as first, server.client() as second:
        first.send(request("/1"))
        wait_until(lambda: server.engine.runners.busy)
        refused = second.get("/2")
        assert (refused.status, refused.fields["retry-after"]) == (503, "1")
        go.set()
        assert first.answer().body == b"/1"


def test_http_1_0_and_ipv6_and_unix_sockets(threads: int, tmp_path: Path) -> None:
    with serving(application, threads) as server:
        server.listen_unix(tmp_path / "s")
        address = server.listen_ipv6()
        with server.client() as client:
            client.send(b"GET /chunks HTTP/1.0\r\n\r\n")
            assert client.rest().endswith(b"\r\n\r\nonetwo")
        for family, place in ((socket.AF_INET6, address), (socket.AF_UNIX, str(tmp_path / "s"))):
            with Client(socket.socket(family)) as client:
                client.socket.connect(place)
                assert client.get("/a").body == b"/a"

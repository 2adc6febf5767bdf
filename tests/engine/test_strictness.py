"""RFC 9110 and 9112 over real sockets: what is refused, for WSGI and ASGI alike, and that nothing after it is answered.

And the other side: whatever an application sends wrong, the next response on the connection is its own.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from clusterd.http.settings import Interface
from tests.support.serving import Client, Serving, request, serving, wait_until

Start = Callable[..., Any]
Receive = Callable[..., Any]
Fields = list[tuple[str, str]]

HOST = b"Host: a\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
EXCESS = "excess " * 20_000

RESPONSES: dict[str, tuple[int, Fields, list[bytes]]] = {
    "/more": (200, [("Content-Length", "4")], [b"more than said"]),
    "/more-in-pieces": (200, [("Content-Length", "4")], [b"mo", b"re than", EXCESS.encode()]),
    "/less": (200, [("Content-Length", "40")], [b"less"]),
    "/less-in-pieces": (200, [("Content-Length", "40")], [b"le", b"ss"]),
    "/less-than-anything": (200, [("Content-Length", "40")], []),
    "/no-content": (204, [], [b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"]),
    "/no-content-with-length": (204, [("Content-Length", "6")], [b"forged"]),
    "/not-modified": (304, [("Content-Length", "6")], [b"forged", b"HTTP/1.1 200 OK\r\n\r\n"]),
    "/split": (200, [("X-A", "b\r\n\r\nHTTP/1.1 200 OK")], [b"body"]),
    "/line-feed": (200, [("X-A", "b\nX-B: c")], [b"body"]),
    "/nul": (200, [("X-A", "\0")], [b"body"]),
    "/name": (200, [("X-A: b\r\nX-C", "d")], [b"body"]),
    "/name-with-space": (200, [("Content-Length ", "3")], [b"body"]),
    "/no-name": (200, [("", "b")], [b"body"]),
    "/two-lengths": (200, [("Content-Length", "4"), ("Content-Length", "5")], [b"body"]),
    "/odd-length": (200, [("Content-Length", "+4")], [b"body"]),
    "/length-and-coding": (
        200,
        [("Content-Length", "4"), ("Transfer-Encoding", "chunked")],
        [b"4\r\nbody\r\n0\r\n\r\n"],
    ),
    "/interim": (100, [], [b"body"]),
}


def wsgi(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    """Sends what the path asks for."""
    good: list[bytes] = [environ["wsgi.input"].read() or b"good"]
    status, fields, body = RESPONSES.get(environ["PATH_INFO"], (200, [], good))
    start_response(f"{status} Status", fields)
    return body if len(body) == 1 else iter(body)


async def asgi(scope: dict[str, Any], receive: Receive, send: Receive) -> None:
    """Sends what the path asks for."""
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return
        body += message["body"]
        more = message["more_body"]
    status, fields, parts = RESPONSES.get(scope["path"], (200, [], [body or b"good"]))
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for part in parts[:-1]:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": parts[-1] if parts else b""})


KINDS = {
    "wsgi-loop": (wsgi, 0, Interface.WSGI),
    "wsgi-threads": (wsgi, 2, Interface.WSGI),
    "asgi": (asgi, 0, Interface.ASGI),
}


@pytest.fixture(scope="module", params=list(KINDS))
def server(request: pytest.FixtureRequest) -> Iterator[Serving]:
    application, threads, interface = KINDS[request.param]
    with serving(application, threads, interface=interface) as server:
        yield server


@pytest.fixture
def client(server: Serving) -> Iterator[Client]:
    with server.client() as client:
        yield client


# ---- requests


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nbody", 400),
        (POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nbody", 400),
        (POST + b"Content-Length: 4,4\r\n\r\nbody", 400),
        (POST + b"Content-Length: -4\r\n\r\nbody", 400),
        (POST + b"Content-Length: +4\r\n\r\nbody", 400),
        (POST + b"Content-Length: 0x4\r\n\r\nbody", 400),
        (POST + b"Content-Length: 4_0\r\n\r\nbody", 400),
        (POST + b"Content-Length: \xb2\r\n\r\nbody", 400),
        (POST + b"Content-Length:\r\n\r\nbody", 400),
        (POST + b"Transfer-Encoding: identity\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding:\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (GET + b"X: a\r\n b\r\n\r\n", 400),
        (GET + b"X: a\r\n\tb\r\n\r\n", 400),
        (GET + b" X: a\r\n\r\n", 400),
        (GET + b"X : a\r\n\r\n", 400),
        (GET + b"X\t: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (GET + b"X: a\n\r\n", 400),
        (GET + b"X: a\rY: b\r\n\r\n", 400),
        (GET + b"X: a\r\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", 400),
        *((GET + b"X: a" + bytes([code]) + b"\r\n\r\n", 400) for code in (0, 1, 8, 11, 12, 27, 31, 127)),
        (GET + b": a\r\n\r\n", 400),
        (GET + b"X\r\n\r\n", 400),
        (GET + b"X(: a\r\n\r\n", 400),
        (GET + b"X\xe4: a\r\n\r\n", 400),
        (GET + b"X\x00Y: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (GET + HOST + b"\r\n", 400),
        (b"GET / HTTP/1.0\r\n" + HOST + HOST + b"\r\n", 400),
        *(
            (b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host, 400)
            for host in (b"a b", b"a/b", b"a@b", b"a:b", b"[::1", b"[v1]", b"[vx.a]", b"a\\b")
        ),
        (b"GET a:80 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET a/b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET ?q HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /#f HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET http://a@b/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET http:/// HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET ftp://b/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b" GET / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /\x7f HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET / http/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n", 400),
        (b"GET /\r\n" + HOST + b"\r\n", 400),
        (b"CONNECT a:80 HTTP/1.1\r\n" + HOST + b"\r\n", 501),
        (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET / HTTP/0.9\r\n\r\n", 505),
        *(
            (CHUNKED + size + b"\r\nbody\r\n0\r\n\r\n", 400)
            for size in (b"", b"g", b"0x4", b"-4", b"+4", b"4 ", b" 4", b"4 4")
        ),
        (CHUNKED + b"0" * 17 + b"4\r\nbody\r\n0\r\n\r\n", 400),
        (CHUNKED + b"f" * 16 + b"\r\nbody", 413),
        (CHUNKED + b"4\nbody\r\n0\r\n\r\n", 400),
        (CHUNKED + b"4\r\nbody\n0\r\n\r\n", 400),
        (CHUNKED + b"4\rbody\r\n0\r\n\r\n", 400),
        (CHUNKED + b"4\r\nbodyX\r\n0\r\n\r\n", 400),
        (CHUNKED + b"4;a\nb\r\nbody\r\n0\r\n\r\n", 400),
        (CHUNKED + b"4;a\x00\r\nbody\r\n0\r\n\r\n", 400),
        (CHUNKED + b"4;" + b"a" * 300 + b"\r\nbody\r\n0\r\n\r\n", 400),
        (CHUNKED + b"4;" + b"a" * 300, 400),
        *(
            (CHUNKED + b"0\r\n" + name + b": a\r\n\r\n", 400)
            for name in (b"Host", b"Content-Length", b"TRANSFER-ENCODING", b"Authorization", b"Connection")
        ),
        (CHUNKED + b"0\r\nX : a\r\n\r\n", 400),
        (CHUNKED + b"0\r\nX: a\n\r\n\r\n", 400),
        (CHUNKED + b"0\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
        (b"G" * 9000, 414),
        (GET + b"X: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (GET + b"X: a\r\n" * 101 + b"\r\n", 431),
        (POST + b"Content-Length: 999999999\r\n\r\n", 413),
        (POST + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n", 413),
        (POST + b"Expect: 200-maybe\r\nContent-Length: 4\r\n\r\nbody", 417),
        (POST + b"Expect: 100-continue, magic\r\nContent-Length: 4\r\n\r\nbody", 417),
    ],
    ids=lambda value: repr(value[:60]) if isinstance(value, bytes) else str(value),
)
def test_what_is_refused_is_the_last_of_its_connection(client: Client, sent: bytes, status: int) -> None:
    client.send(request("/before") + sent + request("/smuggled"))
    assert client.answer().body == b"good"
    answer = client.answer()
    assert (answer.status, answer.fields["connection"]) == (status, "close")
    assert client.rest() == b""


@pytest.mark.parametrize(
    "sent",
    [
        b"\r\n\r\n" + GET + b"\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET / HTTP/1.1\r\nhOsT: \t[::1]:80 \t\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [v1.a:b]:80\r\n\r\n",
        b"GET http://b:1/x HTTP/1.1\r\n" + HOST + b"\r\n",
        b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
        GET + b"X: \xe4\t\xff\r\nX: again\r\nEmpty:\r\n\r\n",
        POST + b"Content-Length: 0004\r\n\r\ngood",
        POST + b"Transfer-Encoding: CHUNKED\r\n\r\n04;a=b\r\ngood\r\n000\r\nX-Sum: 1\r\n\r\n",
        POST + b"Expect: 100-Continue\r\nContent-Length: 4\r\n\r\ngood",
    ],
    ids=lambda value: repr(value[:60]),
)
def test_what_only_looks_odd_is_answered_and_the_next_one_too(client: Client, sent: bytes) -> None:
    client.send(sent + request("/next"))
    assert [client.answer().body, client.answer().body] == [b"good", b"good"]


# ---- responses


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", list(RESPONSES))
def test_what_an_application_sends_wrong_reaches_no_other_response(server: Serving, method: str, path: str) -> None:
    with server.client() as client:
        client.send(request(path, method=method) + request("/next", method="POST", body=b"its own"))
        if path.startswith("/less") and method == "GET":
            rest = client.rest()  # cut: only the end of the connection says so
            assert rest.startswith(b"HTTP/1.1 200 ")
            assert b"its own" not in rest
        else:
            answer = client.answer(bodiless=method == "HEAD")
            assert answer.body in (b"", b"more", b"4\r\nb") or answer.status == 500
            assert "x-b" not in answer.fields
            assert "x-c" not in answer.fields
            assert client.answer().body == b"its own"
    with server.client() as other:
        assert other.get("/next").body == b"good"


def test_a_head_that_was_refused_is_refused_again(client: Client, server: Serving) -> None:
    sent = POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
    for _ in range(3):
        with server.client() as again:
            again.send(sent)
            assert again.answer().status == 400
    assert client.get().body == b"good"
    wait_until(lambda: len(server.engine.connections) == 1)

"""What the engine gives ASGI applications is as asgiref defines it, for every kind of request."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from clusterd.http.settings import Interface
from tests.support.asgi_rules import Checked
from tests.support.frames import BINARY, CLOSE, TEXT, Raw, frame
from tests.support.frameworks import BY_TITLE
from tests.support.frameworks.shared import NOTES
from tests.support.serving import PATIENCE, Client, request, serving, wait_until

REQUESTS = [
    request("/hello?name=a%20b"),
    request("/hello?name=%C3%B6", "Cookie: a=b", "Cookie: c=d", "X-Empty:"),
    request("/hell%6f?name=a"),
    request("//hello//?"),
    request("/%C3%B6%2Fx?a=%3F"),
    request("http://other.example/hello?name=a"),
    request("/hello?name=a", method="HEAD"),
    request("*", method="OPTIONS"),
    request("/upload", method="POST", body=b"x" * 300_000),
    request("/upload", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\n0\r\nX-Trailer: a\r\n\r\n",
    request("/upload", "Expect: 100-continue", method="POST", body=b"body"),
    b"GET /hello?name=a HTTP/1.0\r\n\r\n",
]


@pytest.fixture(autouse=True)
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NOTES, str(tmp_path))


@pytest.mark.parametrize("data", REQUESTS, ids=lambda data: data[:40])
@pytest.mark.parametrize("root_path", ["", "/shop"])
def test_every_request(data: bytes, root_path: str) -> None:
    application = Checked(BY_TITLE["Starlette"].make())
    with serving(application, interface=Interface.ASGI, root_path=root_path) as server, server.client() as client:
        client.send(data)
        answer = answer_of(client)
        assert answer.status in (200, 400, 404, 405)
    assert application.faults == []


def answer_of(client: Client) -> Any:
    """The answer to what was invited, if it was."""
    answer = client.answer_head()
    return client.answer_head() if answer.status == 100 else answer


def test_a_client_that_leaves() -> None:
    application = Checked(BY_TITLE["Starlette"].make())
    with serving(application, interface=Interface.ASGI) as server, server.client() as client:
        client.send(request("/events?name=ended"))
        assert client.answer_head().status == 200
        client.reset()
        wait_until(lambda: "http.disconnect" in application.seen)
    assert application.faults == []


@pytest.mark.parametrize("last", [frame(CLOSE, b"\x03\xe8bye"), frame(CLOSE), b""])
def test_a_websocket(last: bytes) -> None:
    application = Checked(BY_TITLE["Starlette"].make())
    with serving(application, interface=Interface.ASGI) as server:
        with Raw(server, "/ws?name=ended", "Sec-WebSocket-Protocol: a, b") as client:
            client.client.send(frame(TEXT, b"text") + frame(BINARY, b"bytes") + frame(TEXT, b""))
            assert [client.frame() for _ in range(3)] == [(TEXT, b"text"), (BINARY, b"bytes"), (TEXT, b"")]
            client.client.send(last)
        wait_until(lambda: "websocket.disconnect" in application.seen)
    assert application.faults == []


def test_a_lifespan() -> None:
    application = Checked(BY_TITLE["Starlette"].make())
    with serving(application, interface=Interface.ASGI) as server:
        for step in (server.engine.adapter.startup, server.engine.adapter.shutdown):
            asyncio.run_coroutine_threadsafe(step(), server.loop).result(PATIENCE)
    assert application.seen == ["lifespan.startup", "lifespan.shutdown"]
    assert application.faults == []


def test_faults_are_found() -> None:
    """The rules themselves: a server that gives what is not defined."""
    seen: list[Any] = []

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        seen.extend([await receive(), await receive()])

    async def receive() -> Any:
        return {"type": "http.request", "body": bytearray(b"x"), "more_body": 0}

    checked = Checked(application)
    scope = {"type": "http", "method": "GET", "headers": [["A", b""]], "raw_path": b"/?", "query_string": b""}
    with pytest.raises(StopIteration):
        checked({**scope, "path": "/", "root_path": "/a"}, receive, None).send(None)
    for part in ("has no scheme", "has no asgi", "headers of", "query in", "root_path /a", "body of", "more_body of"):
        assert any(part in fault for fault in checked.faults), part

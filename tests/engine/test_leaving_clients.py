"""A client that leaves ends what the application does for it, whether or not the application has anything to send."""

import asyncio
import gc
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from django.core.signals import request_finished
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from clusterd.http.settings import Interface
from tests.support.frames import TEXT, Raw, frame
from tests.support.frameworks import BY_TITLE, Feature
from tests.support.frameworks.shared import NOTES
from tests.support.serving import PATIENCE, Client, Serving, request, serving, wait_until

Leave = Callable[[Client], None]


def closes(client: Client) -> None:
    client.socket.shutdown(socket.SHUT_WR)


def resets(client: Client) -> None:
    client.reset()


LEAVES = pytest.mark.parametrize("leave", [closes, resets])


class Streaming:
    """Streams that send one piece and are idle then. `ended` is set by the `finally` of each."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            self.ended.set()

    async def endpoint(self, _: Request) -> Response:
        return StreamingResponse(self.pieces(), media_type="text/event-stream")

    @property
    def plain(self) -> Starlette:
        return Starlette(routes=[Route("/", self.endpoint)])

    @property
    def behind_middleware(self) -> Starlette:
        async def passes(given: Request, call_next: RequestResponseEndpoint) -> Response:
            return await call_next(given)

        return Starlette(routes=[Route("/", self.endpoint)], middleware=[Middleware(BaseHTTPMiddleware, passes)])

    async def by_hand(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Waits in `receive` with two tasks at once, as a framework and its application may."""
        if scope["type"] == "lifespan":
            return
        await receive()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        both = await asyncio.gather(receive(), receive())
        assert [each["type"] for each in both] == ["http.disconnect"] * 2
        self.ended.set()


@LEAVES
@pytest.mark.parametrize("kind", ["plain", "behind_middleware", "by_hand"])
def test_an_idle_stream_ends_when_its_client_leaves(kind: str, leave: Leave) -> None:
    streaming = Streaming()
    with serving(getattr(streaming, kind), interface=Interface.ASGI) as server, server.client() as client:
        client.send(request())
        assert client.answer_head().status == 200
        assert client.chunk() == b"first"
        leave(client)
        assert streaming.ended.wait(PATIENCE)
        wait_until(lambda: not server.engine.in_flight)
        wait_until(lambda: not server.engine.adapter.running)


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the applications of the frameworks write down that something has ended."""
    monkeypatch.setenv(NOTES, str(tmp_path))
    return tmp_path


ASYNCHRONOUS = [
    "Starlette",
    "Starlette, BaseHTTPMiddleware",
    "FastAPI",
    "FastAPI, BaseHTTPMiddleware",
    "Litestar",
    "Quart",
    "Django, ASGI",
]


@LEAVES
@pytest.mark.parametrize("title", ASYNCHRONOUS)
def test_an_idle_stream_of_every_framework_ends_when_its_client_leaves(title: str, leave: Leave, notes: Path) -> None:
    with serving(BY_TITLE[title].make(), interface=Interface.ASGI) as server, server.client() as client:
        client.send(request("/events?name=ended"))
        assert client.answer_head().status == 200
        assert b"first" in client.chunk()
        leave(client)
        assert_ended(server, notes)


@LEAVES
@pytest.mark.parametrize("title", [each for each in ASYNCHRONOUS if Feature.WEBSOCKET not in BY_TITLE[each].lacks])
def test_a_websocket_of_every_framework_ends_when_its_client_leaves(title: str, leave: Leave, notes: Path) -> None:
    with (
        serving(BY_TITLE[title].make(), interface=Interface.ASGI) as server,
        Raw(server, "/ws?name=ended") as talking,
    ):
        talking.client.send(frame(TEXT, b"here"))
        assert talking.frame() == (TEXT, b"here")
        leave(talking.client)
        assert_ended(server, notes)


@pytest.mark.parametrize("how", ["reset", "stops reading"])
@pytest.mark.parametrize("title", ASYNCHRONOUS)
def test_a_stream_that_is_sending_ends_when_its_client_leaves(title: str, how: str, notes: Path) -> None:
    """Without a garbage collector, as in an idle worker: the errors in a framework keep its generator alive."""
    gc.disable()
    try:
        with (
            serving(BY_TITLE[title].make(), interface=Interface.ASGI, timeouts={"write": 0.3}) as server,
            server.client() as client,
        ):
            client.send(request("/flood?name=ended"))
            assert client.answer_head().status == 200
            if how == "reset":
                client.reset()
            assert_ended(server, notes)
    finally:
        gc.enable()


def test_django_closes_its_response_when_a_client_leaves_while_it_is_sent(notes: Path) -> None:
    """By the signal Django returns its connections to databases. An error out of `send` kept it from that."""
    finished = threading.Event()

    def finish(**_: object) -> None:
        finished.set()

    request_finished.connect(finish)
    try:
        with serving(BY_TITLE["Django, ASGI"].make(), interface=Interface.ASGI) as server, server.client() as client:
            client.send(request("/flood?name=ended"))
            assert client.answer_head().status == 200
            assert not finished.is_set()
            client.reset()
            assert finished.wait(PATIENCE)
            assert_ended(server, notes)
    finally:
        request_finished.disconnect(finish)


def test_a_response_that_has_an_end_gets_to_it_after_its_client_has_left() -> None:
    """An adapter such as a2wsgi hands pieces to a task that sends, and waits for ever when that has failed."""
    left, sent = threading.Event(), threading.Event()

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await asyncio.to_thread(left.wait, PATIENCE)
        for _ in range(100):
            await send({"type": "http.response.body", "body": b"more", "more_body": True})
        await send({"type": "http.response.body"})
        sent.set()

    with serving(application, interface=Interface.ASGI) as server, server.client() as client:
        client.send(request())
        assert client.answer_head().status == 200
        client.reset()
        wait_until(lambda: not server.engine.connections)
        left.set()
        assert sent.wait(PATIENCE)
        wait_until(lambda: not server.engine.adapter.running)
        assert server.ledger.errors == []


def test_an_error_of_the_application_beside_a_clients_leaving_is_logged() -> None:
    """Errors that only say that the client has gone are not: a group of them, or one raised from them."""
    raises: list[Callable[[OSError], BaseException]] = [
        lambda error: error,
        lambda error: ExceptionGroup("all", [error, ExceptionGroup("inner", [error])]),
        lambda error: caused(RuntimeError("in other words"), error),
        lambda error: ExceptionGroup("some", [error, KeyError("mine")]),
        lambda error: KeyError("mine"),
    ]

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
        except OSError as error:
            given = raises[int(scope["path"][1:])](error)
            raise given from given.__cause__

    with serving(application, interface=Interface.ASGI, timeouts={"write": 0.1}) as server:
        for number in range(len(raises)):
            with server.client() as client:
                client.send(request(f"/{number}"))
                assert client.answer_head().status == 200
                client.reset()
            wait_until(lambda: not server.engine.adapter.running)
    assert [error.partition("\n")[0] for error in server.ledger.errors] == ["the application raised"] * 2
    assert [fields["target"] for fields in server.ledger.error_fields] == ["/3", "/4"]


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("title", ["Flask", "Django, WSGI"])
def test_a_stream_in_a_thread_ends_when_its_client_leaves(title: str, threads: int, notes: Path) -> None:
    with serving(BY_TITLE[title].make(), threads) as server, server.client() as client:
        client.send(request("/events?name=ended"))
        assert client.answer_head().status == 200
        client.reset()
        assert_ended(server, notes)


def assert_ended(server: Serving, notes: Path) -> None:
    """The `finally` of the generator has run, no request is in flight, and the client's leaving is no error."""
    wait_until((notes / "ended").exists)
    server.wait_for_rest()
    wait_until(lambda: not server.engine.adapter.running)
    assert server.ledger.errors == []


def test_what_is_sent_to_a_client_that_has_closed_its_side_arrives() -> None:
    go = threading.Event()

    async def endpoint(_: Request) -> Response:
        await asyncio.to_thread(go.wait, PATIENCE)
        return PlainTextResponse("all of it")

    application = Starlette(routes=[Route("/", endpoint)])
    with serving(application, interface=Interface.ASGI) as server, server.client() as client:
        client.send(request())
        closes(client)
        wait_until(lambda: server.on_loop(lambda: any(each.half_closed for each in server.engine.connections)))
        go.set()
        assert client.answer().body == b"all of it"


def test_two_tasks_that_wait_for_a_body_both_learn_of_it() -> None:
    """The first one waited for ever, and with it a framework that reads a body while its application listens."""
    seen: list[dict[str, Any]] = []

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        seen.extend(await asyncio.gather(receive(), receive()))
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"both"})

    with serving(application, interface=Interface.ASGI) as server, server.client() as client:
        client.send(request("/", "Content-Length: 4", method="POST"))
        wait_until(lambda: server.on_loop(lambda: server.engine.in_flight))
        client.send(b"body")
        assert client.answer().body == b"both"
    assert sorted(each["body"] for each in seen) == [b"", b"body"]


def test_each_request_has_the_context_of_the_worker() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="nothing")

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        before = variable.get()
        variable.set(scope["path"])
        await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": before.encode()})

    with serving(application, interface=Interface.ASGI) as server, server.client() as client:
        client.send(request("/first") + request("/second") + request("/third"))
        assert [client.answer().body for _ in range(3)] == [b"nothing"] * 3


def test_what_an_application_does_to_its_scope_reaches_no_other_request() -> None:
    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        before = repr((scope["asgi"], scope["extensions"]))
        scope["asgi"]["mine"] = scope["extensions"]["mine"] = 1
        scope["extensions"]["http.response.trailers"]["mine"] = 1
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": before.encode()})

    with serving(application, interface=Interface.ASGI) as server, server.client() as client:
        first = client.get().body
        assert b"mine" not in first
        assert client.get().body == first
    assert b"'spec_version': '2.3'" in first

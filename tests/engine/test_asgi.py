"""ASGI over real sockets: messages both ways, streaming with back pressure, what applications do wrong, lifespans."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterd.http.call import StartupFailed
from clusterd.http.settings import Interface
from tests.support.serving import Client, Serving, request, serving, wait_until

Scope = dict[str, Any]
Message = dict[str, Any]
Plain = [(b"content-type", b"text/plain")]


async def read_all(receive: Callable[..., Any]) -> bytes:
    body = b""
    while True:
        message: Message = await receive()
        body += bytes(message["body"])
        if not message["more_body"]:
            return body


async def respond(send: Callable[..., Any], body: bytes, status: int = 200, headers: Any = Plain) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def application(scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """A bit of everything, by path."""
    match scope["path"]:
        case "/echo":
            await respond(send, await read_all(receive))
        case "/scope":
            kept = ("method", "path", "raw_path", "query_string", "http_version", "scheme", "root_path", "headers")
            await respond(send, repr({key: scope[key] for key in kept}).encode())
        case "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for piece in (b"one ", b"", b"two ", b"three"):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body"})
        case "/trailers":
            await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
            await send({"type": "http.response.body", "body": b"body"})
            headers = [(b"x-sum", b"4"), (b"content-length", b"9")]
            await send({"type": "http.response.trailers", "headers": headers})
        case "/hints":
            await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]})
            await respond(send, b"hinted")
        case "/file":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.pathsend", "path": scope["query_string"].decode()})
        case "/fail":
            raise LookupError("on purpose")
        case "/fail-late":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            raise LookupError("late, on purpose")
        case "/nothing":
            return
        case "/wrong":
            await send({"type": "http.response.body", "body": b"too early"})
        case "/short":
            await respond(send, b"short", headers=[(b"content-length", b"10")])
        case "/long":
            await respond(send, b"longer than said", headers=[(b"content-length", b"4")])
        case "/inject":
            await respond(send, b"", headers=[(b"x-a", b"b\r\nx-evil: 1")])
        case "/teapot":
            await respond(send, b"", status=418)
        case "/no-content":
            await respond(send, b"never sent", status=204)
        case _:
            await respond(send, b"hello")


@pytest.fixture
def server() -> Iterator[Serving]:
    with serving(application, interface=Interface.ASGI, limits={"body": 64 << 20}) as server:
        yield server


@pytest.fixture
def client(server: Serving) -> Iterator[Client]:
    with server.client() as client:
        yield client


def test_one_connection_answers_one_request_after_the_other(client: Client) -> None:
    for _ in range(3):
        assert client.get().body == b"hello"
    client.send(request("/a") + request("/echo", method="POST", body=b"body") + request("/stream"))
    assert [client.answer().body for _ in range(3)] == [b"hello", b"body", b"one two three"]
    assert client.get(method="HEAD").fields["content-length"] == "5"
    assert client.get("/no-content").status == 204
    assert client.get("/teapot").line == "HTTP/1.1 418 I'm a Teapot"
    assert client.get().body == b"hello"


def test_the_scope_tells_what_was_asked(client: Client) -> None:
    answer = client.get("/scope?q=%20&r", "X-Mixed-Case:  value \t", "Cookie: a=1", "Cookie: b=2")
    scope = eval(answer.body)
    assert scope["raw_path"] == b"/scope"
    assert scope["query_string"] == b"q=%20&r"
    assert (scope["method"], scope["http_version"], scope["scheme"]) == ("GET", "1.1", "http")
    assert scope["headers"] == [
        (b"host", b"test"),
        (b"x-mixed-case", b"value"),
        (b"cookie", b"a=1"),
        (b"cookie", b"b=2"),
    ]


@pytest.mark.parametrize(
    ("root_path", "target", "path"),
    [
        ("", "/%C3%A9/%ff?x", "/\u00e9/\ufffd"),
        ("/app", "/app/x", "/app/x"),
        ("/app", "/x", "/app/x"),
        ("/app", "/application", "/app/application"),
    ],
)
def test_the_path_is_decoded_and_whole(root_path: str, target: str, path: str) -> None:
    paths = []

    async def noting(scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        paths.append(scope["path"])
        await respond(send, b"")

    with serving(noting, interface=Interface.ASGI, root_path=root_path) as server, server.client() as client:
        client.get(target)
    assert paths == [path]


@pytest.mark.parametrize("size", [0, 1, 70_000, 20_000_000])
def test_a_body_comes_back_however_long_it_is(client: Client, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    sender = threading.Thread(target=client.send, args=(request("/echo", method="POST", body=body),))
    sender.start()
    assert client.answer().body == body
    sender.join()
    client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert client.answer().body == b"abcde"


def test_a_body_that_nobody_reads_is_dropped_and_the_connection_goes_on(client: Client) -> None:
    body = b"x" * 3_000_000
    sender = threading.Thread(target=client.send, args=(request("/ignored", method="POST", body=body) + request("/"),))
    sender.start()
    assert [client.answer().body, client.answer().body] == [b"hello", b"hello"]
    sender.join()


def test_100_continue_is_said_when_the_body_is_asked_for(client: Client) -> None:
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
    client.send(head % b"/echo")
    assert client.answer().status == 100
    client.send(b"body")
    assert client.answer().body == b"body"
    client.send(head % b"/ignored")
    answer = client.answer()
    assert (answer.status, answer.fields["connection"]) == (200, "close")


def test_a_client_that_sends_too_fast_waits_for_the_application(server: Serving) -> None:
    go = threading.Event()
    held = []

    async def slow(scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        while not go.is_set():
            held.append(max((c.request.body.held for c in late.engine.connections if c.request), default=0))  # type: ignore[union-attr]
            await asyncio.sleep(0.01)
        await respond(send, b"%d" % len(await read_all(receive)))

    with serving(slow, interface=Interface.ASGI, limits={"body": 64 << 20}) as late, late.client() as client:
        body = bytes(30_000_000)
        sender = threading.Thread(target=client.send, args=(request("/", method="POST", body=body),))
        sender.start()
        wait_until(lambda: len(held) > 30)
        go.set()
        assert client.answer().body == b"30000000"
        sender.join()
    assert max(held) < 1_000_000


def test_an_application_that_sends_too_fast_waits_for_its_client() -> None:
    sent = [0]

    async def endless(scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
            sent[0] += 1

    with serving(endless, interface=Interface.ASGI, timeouts={"write": 1.0}) as server:
        with server.client() as client:
            client.send(request())
            client.socket.recv(1)
            wait_until(lambda: any(not each.writable for each in tuple(server.engine.connections)))
            assert sent[0] < 200
        wait_until(lambda: not server.engine.connections and not server.engine.adapter.running)
        assert server.ledger.errors == []


def test_an_application_that_never_waits_learns_that_its_client_has_gone() -> None:
    ended: list[str] = []

    async def endless(scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        host.engine.abort()  # from here on nothing that is sent goes anywhere, so nothing has to be waited for
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
        except OSError as error:
            ended.append(type(error).__name__)

    with (
        serving(endless, interface=Interface.ASGI, timeouts={"write": 0.2}) as host,
        host.client() as client,
    ):
        client.send(request())
        wait_until(lambda: ended)
    assert ended == ["ClientDisconnected"]


def test_a_client_that_goes_is_a_disconnect() -> None:
    seen: list[str] = []

    async def waiting(scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        seen.append((await receive())["type"])
        seen.append((await receive())["type"])
        while True:
            try:
                await respond(send, b"for nobody")
            except OSError as error:
                seen.append(type(error).__name__)
                return

    with serving(waiting, interface=Interface.ASGI, timeouts={"write": 0.2}) as server:
        with server.client() as client:
            client.send(request())
            wait_until(lambda: seen)
            client.reset()
        wait_until(lambda: len(seen) == 3)
        assert seen == ["http.request", "http.disconnect", "ClientDisconnected"]
        assert server.ledger.errors == []


def test_a_client_that_half_closes_is_answered_and_the_application_told_if_it_asks() -> None:
    asked: list[str] = []

    async def asking(scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["path"] == "/asks":
            await receive()
            asked.append((await receive())["type"])
        await respond(send, b"all the same")

    with serving(asking, interface=Interface.ASGI) as server:
        for path in ("/", "/asks"):
            with server.client() as client:
                client.send(request(path))
                client.socket.shutdown(socket.SHUT_WR)
                assert client.rest().endswith(b"all the same")
        assert asked == ["http.disconnect"]


def test_what_goes_on_after_the_response_holds_nobody_up() -> None:
    go = threading.Event()

    async def background(scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        await respond(send, b"done")
        assert (await receive())["type"] in ("http.request", "http.disconnect")
        await asyncio.get_running_loop().run_in_executor(None, go.wait)

    with serving(background, interface=Interface.ASGI) as server, server.client() as client:
        assert [client.get().body, client.get().body] == [b"done", b"done"]
        assert not server.engine.is_idle
        go.set()
        wait_until(lambda: not server.engine.adapter.running)


@pytest.mark.parametrize("started", [False, True])
def test_a_task_that_waits_for_the_client_learns_that_the_application_has_failed(started: bool) -> None:
    seen: list[str] = []

    async def watching(receive: Callable[..., Any], began: asyncio.Event) -> None:
        for _ in range(2):
            seen.append((await receive())["type"])
            began.set()

    async def failing(scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        began = asyncio.Event()
        watchers.append(asyncio.ensure_future(watching(receive, began)))
        if started:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await began.wait()
        raise LookupError("on purpose")

    watchers: list[asyncio.Future[None]] = []
    with serving(failing, interface=Interface.ASGI) as server, server.client() as client:
        client.send(request("/", "Connection: close"))
        assert client.rest().startswith(b"HTTP/1.1 200" if started else b"HTTP/1.1 500")
        wait_until(lambda: len(seen) == 2)
    assert seen == ["http.request", "http.disconnect"]


@pytest.mark.parametrize("sent", [b"half", b"the whole!"])
def test_a_body_that_is_asked_for_after_the_response_is_gone(sent: bytes) -> None:
    seen: list[Message] = []

    async def late(scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        await respond(send, b"done")
        await asyncio.sleep(0.05)  # the rest of the body is being dropped by now
        while len(seen) < 5 and (not seen or seen[-1].get("more_body")):
            seen.append(await receive())

    with serving(late, interface=Interface.ASGI) as server, server.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n" + sent)
        assert client.answer().body == b"done"
        wait_until(lambda: not server.engine.adapter.running)
    assert seen == [{"type": "http.disconnect"}]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/fail", "LookupError: on purpose"),
        ("/nothing", "returned where http.response.start was expected"),
        ("/wrong", "sent 'http.response.body' where http.response.start was expected"),
        ("/inject", "malformed header"),
    ],
)
def test_an_error_is_a_500_and_logged(server: Serving, client: Client, path: str, said: str) -> None:
    assert client.get(path).status == 500
    assert said in server.ledger.errors[0]
    assert client.get().body == b"hello"


@pytest.mark.parametrize("path", ["/fail-late", "/short"])
def test_an_incomplete_response_ends_its_connection(server: Serving, client: Client, path: str) -> None:
    client.send(request(path))
    rest = client.rest()
    assert rest.startswith(b"HTTP/1.1 200")
    assert not rest.endswith(b"0\r\n\r\n")
    assert server.ledger.errors


def test_what_is_too_much_never_reaches_the_next_response(server: Serving, client: Client) -> None:
    assert client.get("/long").body == b"long"
    assert client.get().body == b"hello"
    assert "12 bytes more than its Content-Length" in server.ledger.errors[0]


def test_trailers_hints_and_files(server: Serving, client: Client, tmp_path: Path) -> None:
    client.send(request("/trailers", "TE: trailers"))
    head = client.answer_head()
    assert head.fields["transfer-encoding"] == "chunked"
    assert client.lines_until_empty() == [b"4", b"body", b"0", b"x-sum: 4"]
    client.send(request("/hints"))
    hint = client.answer_head()
    assert (hint.status, hint.fields["link"]) == (103, "</a.css>; rel=preload")
    assert client.answer().body == b"hinted"
    (tmp_path / "file").write_bytes(bytes(1_000_000))
    assert client.get(f"/file?{tmp_path}/file").body == bytes(1_000_000)
    assert server.ledger.errors == []


def test_a_request_past_its_time_is_cancelled_and_answered_504() -> None:
    cancelled = threading.Event()

    async def hanging(scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with serving(hanging, interface=Interface.ASGI, timeouts={"request": 0.1}) as server, server.client() as client:
        assert client.get().status == 504
        assert cancelled.wait(10)
        wait_until(lambda: not server.engine.adapter.running)


@pytest.mark.parametrize("started", [False, True])
def test_a_body_that_stops_coming_is_given_up(started: bool) -> None:
    async def reading(scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if started:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    with serving(reading, interface=Interface.ASGI, timeouts={"body": 0.1}) as server, server.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        assert client.rest().startswith(b"HTTP/1.1 200" if started else b"HTTP/1.1 408")
        wait_until(lambda: not server.engine.adapter.running)
        assert server.ledger.timeouts.total() == 1


def test_bad_framing_in_the_middle_of_a_body_is_refused(client: Client) -> None:
    client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n")
    assert client.rest().startswith(b"HTTP/1.1 400")


def test_a_body_above_the_limit_is_refused_as_soon_as_that_is_known() -> None:
    with serving(application, interface=Interface.ASGI, limits={"body": 10}) as server, server.client() as client:
        client.send(request("/echo", method="POST", body=b"x" * 11))
        assert client.answer().status == 413


def test_half_a_body_and_the_end_is_no_request() -> None:
    with serving(application, interface=Interface.ASGI) as server:
        with server.client() as client:
            client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
            client.socket.shutdown(socket.SHUT_WR)
            assert client.rest() == b""
        wait_until(lambda: not server.engine.adapter.running)


# ---- lifespans


def lifespan_of(behaviour: Callable[..., Any]) -> Callable[..., Any]:
    async def with_lifespan(scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["type"] == "lifespan":
            await behaviour(scope, receive, send)
        else:
            await respond(send, repr(scope["state"]).encode())

    return with_lifespan


def test_the_state_of_the_lifespan_is_every_request_s_own_copy() -> None:
    said = []

    async def lifespan(scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        while True:
            message = await receive()
            said.append(message["type"])
            scope["state"]["database"] = "open"
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    with serving(lifespan_of(lifespan), interface=Interface.ASGI) as server, server.client() as client:
        asyncio.run_coroutine_threadsafe(server.engine.startup(), server.loop).result(10)
        assert client.get().body == b"{'database': 'open'}"
        asyncio.run_coroutine_threadsafe(server.engine.shutdown(), server.loop).result(10)
    assert said == ["lifespan.startup", "lifespan.shutdown"]


def test_a_startup_that_fails_says_why() -> None:
    async def lifespan(scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with (
        serving(lifespan_of(lifespan), interface=Interface.ASGI) as server,
        pytest.raises(StartupFailed, match="no database"),
    ):
        asyncio.run_coroutine_threadsafe(server.engine.startup(), server.loop).result(10)


def test_an_application_without_a_lifespan_is_served() -> None:
    async def lifespan(scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        raise NotImplementedError

    with serving(lifespan_of(lifespan), interface=Interface.ASGI) as server, server.client() as client:
        asyncio.run_coroutine_threadsafe(server.engine.startup(), server.loop).result(10)
        assert client.get().body == b"{}"
        asyncio.run_coroutine_threadsafe(server.engine.shutdown(), server.loop).result(10)
        assert "NotImplementedError" in server.ledger.details[0]


@pytest.mark.parametrize("event", ["lifespan.startup", "lifespan.shutdown"])
def test_a_lifespan_that_breaks_off_is_in_the_log(event: str) -> None:
    async def lifespan(scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        while (message := await receive())["type"] != event:
            await send({"type": f"{message['type']}.complete"})
        raise ConnectionError("no database")

    with serving(lifespan_of(lifespan), interface=Interface.ASGI) as server, server.client() as client:
        asyncio.run_coroutine_threadsafe(server.engine.startup(), server.loop).result(10)
        assert client.get().body == b"{}"
        asyncio.run_coroutine_threadsafe(server.engine.shutdown(), server.loop).result(10)
        ((message, _),) = server.ledger.warnings
        assert "ConnectionError: no database" in message

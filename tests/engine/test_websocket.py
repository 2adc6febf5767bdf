"""WebSockets over real sockets: the handshake, messages both ways, the closing handshake, and what goes wrong."""

import asyncio
import os
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from clusterd.http.asgi.websocket import session as websocket_session
from clusterd.http.settings import Interface
from tests.support.frames import BINARY, CLOSE, CONTINUATION, HANDSHAKE, PING, PONG, TEXT, Raw, frame
from tests.support.serving import PATIENCE, Serving, request, serving, wait_until

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[..., Any]
Send = Callable[..., Any]
LIMIT = 1_000_000


async def respond(send: Send, body: bytes, status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def echo(receive: Receive, send: Send) -> Message:
    """Send back what comes; gives the message that ended it."""
    while True:
        message: Message = await receive()
        if message["type"] == "websocket.disconnect":
            return message
        await send({**message, "type": "websocket.send"})


class Application:
    """A bit of everything, by path. `ended` holds what each echo ended with."""

    def __init__(self) -> None:
        self.ended: list[Message] = []
        self.errors: list[str] = []
        self.scopes: list[Scope] = []
        self.announced = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            if scope["path"] == "/after-the-client":
                while (await receive())["type"] != "http.disconnect":
                    pass
            await respond(send, b"plain")
            return
        self.scopes.append(scope)
        assert await receive() == {"type": "websocket.connect"}
        self.announced.set()
        await getattr(self, scope["path"].strip("/").replace("-", "_"))(scope, receive, send)

    async def echo(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        self.ended.append(await echo(receive, send))

    async def chosen(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"x-chosen", b"yes"), (b"Connection", b"close"), (b"sec-websocket-accept", b"wrong")]
        await send({"type": "websocket.accept", "subprotocol": scope["subprotocols"][-1], "headers": headers})

    async def not_offered(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept", "subprotocol": "other"})

    async def close(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4001, "reason": "enough"})
        self.ended.append(await receive())
        await self.note(send({"type": "websocket.send", "text": "late"}))

    async def wrong_code(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        for message in ({"code": 1006}, {"code": 99}):
            await self.note(send({"type": "websocket.close", **message}))
        await self.note(send({"type": "websocket.send", "text": None}))
        await self.note(send({"type": "websocket.accept"}))
        await send({"type": "websocket.close", "reason": "still here"})

    async def refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.note(send({"type": "websocket.send", "text": "early"}))
        await send({"type": "websocket.close"})
        self.ended.append(await receive())

    async def deny(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"x-why", b"because")]
        await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
        await self.note(send({"type": "websocket.accept"}))
        await send({"type": "websocket.http.response.body", "body": b"not ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"you"})
        self.ended.append(await receive())

    async def deny_while_watched(self, scope: Scope, receive: Receive, send: Send) -> None:
        watching = asyncio.ensure_future(receive())
        await asyncio.sleep(0)  # it waits from now on
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"not you"})
        self.ended.append(await watching)

    async def deny_and_fail(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"not ", "more_body": True})
        raise LookupError("on purpose")

    async def fail(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("on purpose")

    async def fail_late(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        raise LookupError("late, on purpose")

    async def return_at_once(self, scope: Scope, receive: Receive, send: Send) -> None:
        return

    async def wait(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.ended.append(await receive())

    async def note(self, sending: Any) -> None:
        try:
            await sending
        except (RuntimeError, TypeError, ValueError) as error:
            self.errors.append(str(error))


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
def server(application: Application) -> Iterator[Serving]:
    with serving(application, interface=Interface.ASGI, limits={"body": LIMIT}) as server:
        yield server


def client_of(server: Serving, path: str = "/echo", **options: Any) -> ClientConnection:
    host, port = server.address[:2]
    client: ClientConnection = connect(
        f"ws://{host}:{port}{path}", proxy=None, max_size=None, close_timeout=PATIENCE, **options
    )
    return client


# ---- the handshake


def test_a_websocket_is_accepted_with_what_the_client_must_check(server: Serving, application: Application) -> None:
    with Raw(server) as raw:
        assert raw.answer.line == "HTTP/1.1 101 Switching Protocols"
        assert raw.answer.fields["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 section 1.3
        assert "content-length" not in raw.answer.fields
        raw.client.send(frame(CLOSE))
        assert raw.closed_with() == (1005, "")
        assert raw.client.rest() == b""
    wait_until(lambda: application.ended)
    assert application.ended == [{"type": "websocket.disconnect", "code": 1005, "reason": ""}]
    assert server.ledger.done == [101]


def test_the_scope_tells_what_was_asked(server: Serving, application: Application) -> None:
    with client_of(server, "/echo?a=%20", subprotocols=["one", "two"], additional_headers={"X-Mine": "1"}):
        pass
    scope = application.scopes[0]
    kept = ("type", "scheme", "http_version", "path", "raw_path", "query_string", "subprotocols", "extensions")
    assert {key: scope[key] for key in kept} == {
        "type": "websocket",
        "scheme": "ws",
        "http_version": "1.1",
        "path": "/echo",
        "raw_path": b"/echo",
        "query_string": b"a=%20",
        "subprotocols": ["one", "two"],
        "extensions": {"websocket.http.response": {}},
    }
    assert (b"x-mine", b"1") in scope["headers"]
    assert "method" not in scope
    assert scope["state"] == {}


def test_the_application_chooses_a_subprotocol_and_adds_headers(server: Serving) -> None:
    with client_of(server, "/chosen", subprotocols=["one", "two"]) as client:
        assert client.subprotocol == "two"
        assert client.response is not None
        assert client.response.headers["X-Chosen"] == "yes"


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"Sec-WebSocket-Key": None}, 400),
        ({"Sec-WebSocket-Key": "short"}, 400),
        ({"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZR=="}, 400),  # bits beyond the 16 bytes
        ({"Sec-WebSocket-Version": None}, 400),
        ({"Sec-WebSocket-Version": "8"}, 426),
        ({"Sec-WebSocket-Protocol": "a, b c"}, 400),
        ({"Sec-WebSocket-Protocol": "a, a"}, 400),
        ({"Content-Length": "1"}, 400),
        ({"Transfer-Encoding": "chunked"}, 400),
        ({"Upgrade": "h2c"}, 200),
        ({"Upgrade": "websockets"}, 200),
        ({"Connection": "keep-alive"}, 200),
    ],
)
def test_what_is_no_handshake_is_refused_or_answered_as_http(
    server: Serving, changed: dict[str, str | None], status: int
) -> None:
    fields = {**dict(line.split(": ") for line in HANDSHAKE), **changed}
    with server.client() as client:
        answer = client.get("/echo", *(f"{name}: {value}" for name, value in fields.items() if value is not None))
        assert answer.status == status
        if status == 426:
            assert answer.fields["sec-websocket-version"] == "13"


def test_other_methods_are_refused_and_http_1_0_asks_for_nothing(server: Serving) -> None:
    with server.client() as client:
        assert client.get("/echo", *HANDSHAKE, method="POST").status == 400
    with server.client() as client:
        client.send("\r\n".join(["GET /echo HTTP/1.0", *HANDSHAKE, "", ""]).encode())
        assert client.answer().body == b"plain"


def test_a_wsgi_application_answers_it_as_http() -> None:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["HTTP_UPGRADE"].encode()]

    with serving(application) as server, server.client() as client:
        assert client.get("/", *HANDSHAKE).body == b"websocket"
        assert client.get("/", *HANDSHAKE).body == b"websocket"


# ---- messages


@pytest.mark.parametrize("compression", ["deflate", None])
def test_messages_come_back_as_they_were(server: Serving, compression: str | None) -> None:
    messages: list[str | bytes] = [
        "text",
        "",
        b"",
        b"bytes",
        "\u00e9\U0001f600" * 30_000,
        os.urandom(300_000),
        "a\r\nb\rc\n",
        b"z" * LIMIT,
        "x" * 125,
        "x" * 126,
    ]
    with client_of(server, compression=compression) as client:
        assert client.response is not None
        assert ("Sec-WebSocket-Extensions" in client.response.headers) is (compression is not None)
        for message in messages:
            client.send(message)
            assert client.recv(PATIENCE) == message
        client.send(iter(["frag", "", "ments \u00e9"]))
        assert client.recv(PATIENCE) == "fragments \u00e9"
        client.send(iter([b"a" * 70_000, b"b" * 70_000]))
        assert client.recv(PATIENCE) == b"a" * 70_000 + b"b" * 70_000


def test_what_came_with_the_request_and_what_comes_byte_by_byte_is_understood(server: Serving) -> None:
    with Raw(server, early=frame(TEXT, b"with it")) as raw:
        assert raw.frame() == (TEXT, b"with it")
        for byte in frame(TEXT, "\u00e9".encode(), fin=False) + frame(PING, b"p") + frame(CONTINUATION, b"!"):
            raw.client.send(bytes([byte]))
        assert raw.frame() == (PONG, b"p")
        assert raw.frame() == (TEXT, "\u00e9!".encode())


DEFLATE = "Sec-WebSocket-Extensions: "


def deflated(*pieces: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (b"".join(map(compressor.compress, pieces)) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


@pytest.mark.parametrize(
    ("offer", "accepted"),
    [
        ("permessage-deflate", "permessage-deflate"),
        ("permessage-deflate; client_max_window_bits", "permessage-deflate; client_max_window_bits=15"),
        ("permessage-deflate; unknown, permessage-deflate", "permessage-deflate"),
        ("permessage-deflate; server_max_window_bits=8", None),
        ("permessage-deflate; server_max_window_bits=junk", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
        ("x-webkit-deflate-frame", None),
    ],
)
def test_compression_is_agreed_on_as_the_standard_says(server: Serving, offer: str, accepted: str | None) -> None:
    with Raw(server, "/echo", DEFLATE + offer) as raw:
        assert raw.answer.status == 101
        assert raw.answer.fields.get("sec-websocket-extensions") == accepted


def test_a_ping_within_a_compressed_message_leaves_it_whole(server: Serving) -> None:
    data = deflated(b"compressed, " * 20)
    with Raw(server, "/echo", DEFLATE + "permessage-deflate") as raw:
        raw.client.send(
            frame(TEXT, data[:5], fin=False, rsv1=True) + frame(PING, b"hi") + frame(CONTINUATION, data[5:])
        )
        assert raw.frame() == (PONG, b"hi")
        opcode, payload = raw.frame()
        assert zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff") == b"compressed, " * 20
        assert opcode == TEXT


def test_a_compressed_message_is_measured_before_it_is_unpacked_as_a_whole(server: Serving) -> None:
    bomb = deflated(*[bytes(1_000_000)] * 200)
    with Raw(server, "/echo", DEFLATE + "permessage-deflate") as raw:
        before = peak_memory()
        raw.client.send(frame(BINARY, bomb, rsv1=True))
        assert raw.closed_with()[0] == 1009
        assert peak_memory() - before < 50_000_000


def peak_memory() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def test_a_client_that_asked_for_it_as_its_last_word_is_let_go(server: Serving, application: Application) -> None:
    with server.client() as client:
        client.send(request("/after-the-client") + request("/echo", *HANDSHAKE) + frame(TEXT, b"only"))
        client.socket.shutdown(socket.SHUT_WR)
        assert client.answer().body == b"plain"
        assert client.answer_head().status == 101
        assert client.rest() == b""
    wait_until(lambda: server.engine.is_idle)
    assert application.ended[0]["code"] == 1006


# ---- what breaks the protocol


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(TEXT, b"\xff\xfe"), 1007),
        (frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"x"), 1007),
        (frame(TEXT, b"\xc3"), 1007),
        (frame(CLOSE, b"\x03\xe8\xff"), 1007),
        (frame(TEXT, b"x", mask=False), 1002),
        (frame(TEXT, b"x", rsv1=True), 1002),
        (frame(3), 1002),
        (frame(CONTINUATION, b"x"), 1002),
        (frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002),
        (frame(PING, b"x", fin=False), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(CLOSE, b"\x03"), 1002),
        (frame(CLOSE, b"\x03\xed"), 1002),
        (frame(CLOSE, b"\x00\x01"), 1002),
        (frame(BINARY, bytes(LIMIT + 1)), 1009),
        (frame(BINARY, bytes(LIMIT), fin=False) + frame(CONTINUATION, b"1"), 1009),
    ],
)
def test_what_breaks_the_protocol_or_a_limit_closes_with_the_reason(
    server: Serving, application: Application, sent: bytes, code: int
) -> None:
    with Raw(server) as raw:
        raw.client.send(sent)
        assert raw.closed_with()[0] == code
        assert raw.client.rest() == b""
    wait_until(lambda: application.ended)
    assert application.ended[0]["code"] == code
    assert server.ledger.errors == []


# ---- closing


def test_the_client_closes_with_a_code_and_a_reason(server: Serving, application: Application) -> None:
    with client_of(server) as client:
        client.send("last")
        assert client.recv(PATIENCE) == "last"
        client.close(4000, "done")
    wait_until(lambda: application.ended)
    assert application.ended == [{"type": "websocket.disconnect", "code": 4000, "reason": "done"}]
    wait_until(lambda: not server.engine.connections and not server.engine.adapter.running)


def test_messages_before_the_client_s_close_are_taken_first() -> None:
    go = threading.Event()
    taken: list[Message] = []

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.to_thread(go.wait, PATIENCE)
        while not taken or taken[-1]["type"] != "websocket.disconnect":
            taken.append(await receive())

    with serving(slow, interface=Interface.ASGI) as server, Raw(server, "/") as raw:
        raw.client.send(frame(TEXT, b"one") + frame(BINARY, b"two") + frame(CLOSE, b"\x03\xe8"))
        assert raw.closed_with() == (1000, "")
        go.set()
        wait_until(lambda: len(taken) == 3)
    assert [each.get("text", each.get("bytes", each.get("code"))) for each in taken] == ["one", b"two", 1000]


def test_a_connection_that_ends_without_a_close_is_1006(server: Serving, application: Application) -> None:
    with Raw(server) as raw:
        raw.client.reset()
    with Raw(server) as raw:
        raw.client.socket.shutdown(socket.SHUT_WR)
        assert raw.client.rest() == b""
    wait_until(lambda: len(application.ended) == 2)
    assert {each["code"] for each in application.ended} == {1006}


def test_the_application_closes_and_can_say_nothing_after_it(server: Serving, application: Application) -> None:
    with client_of(server, "/close") as client, pytest.raises(ConnectionClosedError) as caught:
        client.recv(PATIENCE)
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "enough")
    wait_until(lambda: application.errors)
    assert application.ended == [{"type": "websocket.disconnect", "code": 4001, "reason": "enough"}]
    assert application.errors == ["the application sent 'websocket.send' where nothing was expected"]


def test_what_can_not_be_sent_is_an_error_that_says_so(server: Serving, application: Application) -> None:
    with client_of(server, "/wrong-code") as client, pytest.raises(ConnectionClosedOK) as caught:
        client.recv(PATIENCE)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.reason == "still here"
    assert application.errors == [
        "websocket.close with the code 1006, which cannot be sent (RFC 6455 section 7.4)",
        "websocket.close with the code 99, which cannot be sent (RFC 6455 section 7.4)",
        "websocket.send: 'bytes', without 'text': found None of type NoneType, allowed is bytes",
        "the application sent 'websocket.accept' where websocket.send or websocket.close was expected",
    ]


@pytest.mark.parametrize(
    ("path", "code", "errors"), [("/fail-late", 1011, ["late, on purpose"]), ("/chosen", 1000, [])]
)
def test_an_application_that_ends_closes(server: Serving, path: str, code: int, errors: list[str]) -> None:
    with client_of(server, path, subprotocols=["one"]) as client, pytest.raises(ConnectionClosed) as caught:
        client.recv(PATIENCE)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == code
    assert [each.rpartition(": ")[2] for each in server.ledger.errors] == errors


@pytest.mark.parametrize(
    ("path", "status", "errors"),
    [("/fail", 500, 1), ("/return-at-once", 500, 1), ("/not-offered", 500, 1), ("/refuse", 403, 0)],
)
def test_what_is_not_accepted_is_answered(server: Serving, path: str, status: int, errors: int) -> None:
    with pytest.raises(InvalidStatus) as caught:
        client_of(server, path)
    assert caught.value.response.status_code == status
    wait_until(lambda: server.ledger.done)  # the client has its answer before it is counted
    assert len(server.ledger.errors) == errors
    assert server.ledger.done == [status]


def test_an_application_that_refuses_is_told_what_it_did_before_and_after(
    server: Serving, application: Application
) -> None:
    with pytest.raises(InvalidStatus):
        client_of(server, "/refuse")
    wait_until(lambda: application.ended)
    expected = "websocket.accept, websocket.close or websocket.http.response.start"
    assert application.errors == [
        f"the application sent 'websocket.send' where {expected} was expected",
    ]
    assert application.ended[0]["code"] == 1006


def test_a_denial_is_a_response_of_the_application_s_own(server: Serving, application: Application) -> None:
    with server.client() as client:
        answer = client.get("/deny", *HANDSHAKE)
        assert (answer.status, answer.body, answer.fields["x-why"]) == (401, b"not you", "because")
        assert client.rest() == b""
    wait_until(lambda: application.ended)
    assert application.ended[0]["code"] == 1006
    assert application.errors == [
        "the application sent 'websocket.accept' where the rest of its websocket.http.response was expected"
    ]
    assert server.ledger.done == [401]


def test_a_task_that_waits_for_the_client_learns_of_a_denial(server: Serving, application: Application) -> None:
    with server.client() as client:
        assert client.get("/deny-while-watched", *HANDSHAKE).body == b"not you"
    wait_until(lambda: application.ended)
    assert application.ended[0]["code"] == 1006


def test_a_denial_that_fails_is_cut(server: Serving) -> None:
    with Raw(server, "/deny-and-fail") as raw:
        assert raw.answer.status == 401
        assert raw.client.rest() == b"4\r\nnot \r\n"
    assert "on purpose" in server.ledger.errors[0]


def test_a_client_that_goes_before_it_is_accepted_is_a_disconnect(server: Serving, application: Application) -> None:
    with server.client() as client:
        client.send(request("/wait", *HANDSHAKE))
        assert application.announced.wait(PATIENCE)
        client.reset()
    wait_until(lambda: application.ended)
    assert application.ended == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]
    wait_until(lambda: not server.engine.adapter.running)
    assert server.ledger.errors == []
    assert server.ledger.done == [499]


def test_an_application_that_does_not_answer_in_time_is_cancelled(application: Application) -> None:
    with (
        serving(application, interface=Interface.ASGI, timeouts={"request": 0.5}) as server,
        server.client() as client,
    ):
        assert client.get("/wait", *HANDSHAKE).status == 504
        wait_until(lambda: not server.engine.adapter.running)
        with client_of(server) as other:  # once accepted, it has all the time of the world
            wait_until(lambda: any(each.age > 1 for each in server.on_loop(server.engine.requests_in_flight)))
            other.send("still")
            assert other.recv(PATIENCE) == "still"


# ---- pings


def test_the_server_pings_a_silent_client_and_gives_up_on_one_that_does_not_answer(
    server: Serving, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_session, "PING_SECONDS", 0.05)
    monkeypatch.setattr(websocket_session, "PONG_SECONDS", 1.0)
    with Raw(server) as raw:
        for _ in range(3):
            assert raw.frame() == (PING, b"")
            raw.client.send(frame(PONG))
        assert raw.frame() == (PING, b"")
        assert raw.closed_with() == (1011, "no answer to a ping")
        assert raw.client.rest() == b""
    wait_until(lambda: application.ended)
    assert application.ended[0]["code"] == 1011


def test_a_real_client_answers_pings_and_is_answered(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_session, "PING_SECONDS", 0.05)
    with client_of(server, ping_interval=None) as client:
        assert client.ping().wait(PATIENCE)
        client.send("hello")
        assert client.recv(PATIENCE) == "hello"


# ---- back pressure


def test_a_client_that_sends_too_fast_waits_for_the_application() -> None:
    go = threading.Event()
    taken = [0]

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.to_thread(go.wait, PATIENCE)
        while (message := await receive())["type"] == "websocket.receive":
            taken[0] += len(message["bytes"])
        await send({"type": "websocket.close"})

    with serving(slow, interface=Interface.ASGI) as server, Raw(server, "/") as raw:
        raw.client.socket.settimeout(0.3)
        sent = 0
        piece = frame(BINARY, bytes(50_000))
        with pytest.raises(TimeoutError):
            while sent < 100_000_000:
                raw.client.socket.sendall(piece)
                sent += 50_000
        assert sent < 30_000_000  # what the kernel holds on both sides, and little more
        go.set()
        wait_until(lambda: taken[0] >= sent)


def test_an_application_that_sends_too_fast_waits_for_its_client() -> None:
    sent = [0]
    ended: list[str] = []

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            while True:
                await send({"type": "websocket.send", "bytes": bytes(100_000)})
                sent[0] += 1
        except OSError as error:
            ended.append(type(error).__name__)
            raise

    with serving(endless, interface=Interface.ASGI) as server:
        with Raw(server, "/") as raw:
            wait_until(lambda: any(not each.writable for each in tuple(server.engine.connections)))
            assert sent[0] < 200
            # Pings are not answered meanwhile, but the last of them is when the client has caught up.
            raw.client.send(frame(PING, b"first") + frame(PING, b"last"))
            frames = iter(raw.frame, None)
            assert b"last" in (payload for opcode, payload in frames if opcode == PONG)
        wait_until(lambda: not server.engine.connections and not server.engine.adapter.running)
        assert ended == ["ClientDisconnected"]
        assert server.ledger.errors == []


def test_an_application_may_close_what_its_client_has_closed() -> None:
    """Starlette's endpoints close when they cannot decode a message, whether or not the client is still there."""
    errors: list[BaseException] = []

    async def closing(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        assert (await receive())["type"] == "websocket.disconnect"
        try:
            await send({"type": "websocket.close", "code": 1003})
        except BaseException as error:
            errors.append(error)

    with serving(closing, interface=Interface.ASGI) as server:
        with Raw(server, "/") as raw:
            raw.client.send(frame(CLOSE, b"\x03\xe8"))
            assert raw.closed_with() == (1000, "")
        wait_until(lambda: not server.engine.adapter.running)
        assert (errors, server.ledger.errors) == ([], [])


def test_an_application_that_never_waits_learns_that_its_client_has_gone() -> None:
    ended: list[str] = []

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        own.engine.abort()  # from now on everything seems to be sent at once
        try:
            while True:
                await send({"type": "websocket.send", "text": ""})
        except OSError as error:
            ended.append(type(error).__name__)

    with serving(endless, interface=Interface.ASGI) as own, own.client() as client:
        client.send(request("/", *HANDSHAKE))
        wait_until(lambda: ended == ["ClientDisconnected"])


def test_a_client_that_stops_reading_is_cut_off() -> None:
    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            await send({"type": "websocket.send", "bytes": bytes(100_000)})

    with serving(endless, interface=Interface.ASGI, timeouts={"write": 0.2}) as server, Raw(server, "/"):
        wait_until(lambda: server.ledger.timeouts.total() == 1)
        wait_until(lambda: not server.engine.connections and not server.engine.adapter.running)


# ---- leaving


def test_a_rollout_closes_with_1012_and_a_stop_with_1001(application: Application) -> None:
    moved: list[object] = []
    with serving(application, interface=Interface.ASGI, on_movable=moved.append) as server:
        for leave, code in ((server.engine.retirement.hand_over, 1012), (server.engine.retirement.close, 1001)):
            server.on_loop(server.engine.retirement.take_back)
            with client_of(server) as client:
                client.send("before")
                assert client.recv(PATIENCE) == "before"
                assert (server.engine.in_flight, server.engine.load) == (1, 1)
                assert [each.phase for each in server.engine.requests_in_flight()] == ["websocket"]
                server.on_loop(leave)
                with pytest.raises(ConnectionClosed) as caught:
                    client.recv(PATIENCE)
                assert caught.value.rcvd is not None
                assert caught.value.rcvd.code == code
            wait_until(lambda: server.engine.is_idle)
            assert server.engine.in_flight == 0
        assert [each["code"] for each in application.ended] == [1012, 1001]
        assert moved == []


def test_a_websocket_that_is_accepted_while_the_server_leaves_is_closed_at_once(application: Application) -> None:
    with serving(application, interface=Interface.ASGI) as server:
        server.on_loop(server.engine.retirement.hand_over)
        with client_of(server) as client, pytest.raises(ConnectionClosed) as caught:
            client.recv(PATIENCE)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1012


def test_a_client_that_does_not_answer_the_close_is_cut_off(
    server: Serving, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_session, "CLOSE_SECONDS", 0.1)
    with Raw(server) as raw:
        server.on_loop(server.engine.retirement.close)
        assert raw.closed_with()[0] == 1001
        # Neither messages nor pings put it off, and nothing is answered any more.
        with suppress(ConnectionError):  # cut off already, on a slow machine
            raw.client.send(frame(TEXT, b"late") + frame(PING))
        assert raw.ends()
        wait_until(lambda: server.engine.is_idle)
    assert application.ended == [{"type": "websocket.disconnect", "code": 1001, "reason": "the service stops"}]


def test_what_is_left_at_the_end_of_a_drain_is_cut(server: Serving, application: Application) -> None:
    with Raw(server) as raw:
        server.on_loop(server.engine.abort)
        assert raw.ends()
        wait_until(lambda: server.engine.is_idle)
    assert application.ended[0]["code"] == 1006


# ---- frameworks


def test_starlette_serves_its_websocket_routes() -> None:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import WebSocketRoute
    from starlette.websockets import WebSocket, WebSocketDisconnect

    left: list[int] = []

    async def upper(websocket: WebSocket) -> None:
        await websocket.accept(subprotocol="upper")
        try:
            while True:
                await websocket.send_json({"said": (await websocket.receive_text()).upper()})
        except WebSocketDisconnect as error:
            left.append(error.code)

    async def denied(websocket: WebSocket) -> None:
        await websocket.send_denial_response(PlainTextResponse("not you", status_code=402))

    application = Starlette(routes=[WebSocketRoute("/upper", upper), WebSocketRoute("/denied", denied)])
    with serving(application, interface=Interface.ASGI) as server:
        with client_of(server, "/upper", subprotocols=["upper"]) as client:
            client.send("hello")
            assert client.recv(PATIENCE) == '{"said":"HELLO"}'
            client.close(4002)
        wait_until(lambda: left == [4002])
        for path, status in (("/denied", 402), ("/nowhere", 403)):
            with pytest.raises(InvalidStatus) as caught:
                client_of(server, path)
            assert caught.value.response.status_code == status
        assert server.ledger.errors == []


def test_messages_that_wait_share_the_memory_of_the_worker(application: Application) -> None:
    part = frame(BINARY, bytes(60_000), fin=False)
    with serving(application, interface=Interface.ASGI, limits={"websocket_memory": 100_000}) as server:
        with Raw(server) as first, Raw(server) as second:
            first.client.send(part)
            wait_until(application.announced.is_set)
            first.client.send(frame(PING))
            assert first.frame() == (PONG, b"")
            second.client.send(part)
            assert second.closed_with() == (1013, "too many messages wait: come back later")
            first.client.send(frame(CONTINUATION, b"end"))
            assert first.frame() == (BINARY, bytes(60_000) + b"end")
        for _ in range(3):
            with Raw(server) as another:
                another.client.send(part + frame(CONTINUATION, bytes(30_000), fin=False) + frame(PING))
                assert another.frame() == (PONG, b"")

"""What applications may pass to the server: as the specifications say, as other servers tolerate it, and neither.

Each value stands in a message or a call that is otherwise right. What is refused is refused by an error that names the
place, in the same words by the interpreted and the compiled engine.
"""

import io
import re
from collections import OrderedDict, UserDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from clusterd.http.settings import Interface
from tests.support.serving import PATIENCE, request, serving, wait_until


class Text(str):
    """As Django's SafeString is one."""


class Octets(bytes):
    pass


class Indexed:
    """As an integer of numpy is one."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __index__(self) -> int:
        return self._value


class Code(IntEnum):
    NORMAL = 1000


@dataclass(frozen=True)
class Given:
    """A value for a key of a message. `make` is called for each use, since an iterator can be used once."""

    message: str
    key: str
    make: Callable[[], Any]
    is_taken: bool

    def __str__(self) -> str:
        value = re.sub(" at 0x[0-9a-f]+", "", str(self.make()))  # the same in every run, so that one can be chosen
        return f"{self.message}-{self.key}-{'takes' if self.is_taken else 'refuses'}-{value[:30]}"


def _given(message: str, key: str, values: tuple[Any, ...], *, is_taken: bool) -> list[Given]:
    return [Given(message, key, each if callable(each) else partial(_same, each), is_taken) for each in values]


def _same(value: Any) -> Any:
    return value


def taken(message: str, key: str, *values: Any) -> list[Given]:
    return _given(message, key, values, is_taken=True)


def refused(message: str, key: str, *values: Any) -> list[Given]:
    return _given(message, key, values, is_taken=False)


START, BODY, TRAILERS = "http.response.start", "http.response.body", "http.response.trailers"
HINT, PATHSEND = "http.response.early_hint", "http.response.pathsend"
MESSAGES_FILE = Path(__file__)
PAIR = (b"x-given", b"value")
BYTE_FIELDS = [
    [PAIR],
    (PAIR,),
    [list(PAIR)],
    [[bytearray(b"x-given"), memoryview(b"value")]],
    [(Octets(b"x-given"), Octets(b"value"))],
    lambda: iter([PAIR]),
    lambda: (iter(each) for each in [PAIR]),
    {b"x-given": b"value"}.items,
]
NO_BYTE_FIELDS = [
    5, None, "ab", b"ab", [5], [None], [b"ab"], [PAIR[:1]], [(*PAIR, b"more")], [("x-given", "value")],
    [(b"x-given", 5)], [(b"x-given", None)], {b"x-given": b"value"},
]  # fmt: skip
TRUE: list[Any] = [True, 1, "yes", [0]]
FALSE: list[Any] = [False, 0, None, "", []]

HTTP = [
    *taken(START, "status", 200, HTTPStatus.OK, lambda: Indexed(200)),
    *refused(START, "status", "200", b"200", 200.0, None, [], 99),
    *taken(START, "headers", *BYTE_FIELDS),
    *refused(START, "headers", *NO_BYTE_FIELDS),
    *taken(START, "trailers", *FALSE),
    *taken(BODY, "body", b"body", bytearray(b"body"), lambda: memoryview(b"body"), lambda: Octets(b"body")),
    *refused(BODY, "body", "body", 5, None, [b"body"], lambda: iter([b"body"])),
    *taken(BODY, "more_body", *TRUE, *FALSE),
    *taken(TRAILERS, "headers", *BYTE_FIELDS),
    *refused(TRAILERS, "headers", *NO_BYTE_FIELDS),
    *taken(TRAILERS, "more_trailers", *TRUE, *FALSE),
    *taken(HINT, "links", [b"</a>"], (b"</a>",), [bytearray(b"</a>")], lambda: iter([b"</a>"])),
    *refused(HINT, "links", 5, None, b"</a>", "</a>", ["</a>"], [5]),
    *taken(PATHSEND, "path", str(MESSAGES_FILE), MESSAGES_FILE, lambda: Text(MESSAGES_FILE)),
    *refused(PATHSEND, "path", 5, None, b"/etc/hostname", ["/etc/hostname"]),
]


class Application:
    """Sends one response, with the value that is given. Keeps the error that it got."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.error: BaseException | None = None

    def message(self, kind: str, **parts: Any) -> dict[str, Any]:
        if kind == self.given.message:
            parts[self.given.key] = self.given.make()
        return {"type": kind, **parts}

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise RuntimeError("no lifespan")
        try:
            for message in self.messages():
                await send(message)
        except BaseException as error:
            self.error = error
            raise

    def messages(self) -> Iterable[dict[str, Any]]:
        kind, key = self.given.message, self.given.key
        if kind == HINT:
            yield self.message(HINT)
        has_trailers = kind == TRAILERS
        yield self.message(START, status=200, trailers=has_trailers, headers=[(b"content-type", b"text/plain")])
        if kind == PATHSEND:
            yield self.message(PATHSEND)
            return
        yield self.message(BODY, body=b"body", more_body=False)
        if kind == BODY and key == "more_body" and self.given.make():
            yield {"type": BODY, "body": b"", "more_body": False}
        if has_trailers:
            yield self.message(TRAILERS, headers=[PAIR], more_trailers=False)
            if key == "more_trailers" and self.given.make():
                yield {"type": TRAILERS, "headers": [], "more_trailers": False}


@pytest.mark.parametrize("given", HTTP, ids=str)
def test_asgi_http(given: Given) -> None:
    application = Application(given)
    with serving(application, interface=Interface.ASGI) as server, server.client() as client:
        client.send(request("/"))
        if not given.is_taken:
            wait_until(lambda: server.ledger.errors)
            assert_names_the_place(application.error, given)
            return
        if given.message == HINT:
            assert client.answer_head().status == 103
        answer = client.answer_head()
        assert answer.status == 200
        if (given.message, given.key) == (START, "headers"):
            assert answer.fields["x-given"] == "value"
        length = answer.fields.get("content-length")
        body = client.read(int(length)) if length is not None else client.chunk()
        assert body == (MESSAGES_FILE.read_bytes() if given.message == PATHSEND else b"body")
        assert (application.error, server.ledger.errors) == (None, [])


def assert_names_the_place(error: BaseException | None, given: Given) -> None:
    """It says which message, which key, what was found and what is allowed."""
    assert isinstance(error, (TypeError, ValueError))
    if isinstance(error, TypeError):
        for part in (given.message, given.key, "found", "allowed is"):
            assert part in str(error)


# ---- the message itself


class Sends:
    """An application that answers with these messages."""

    def __init__(self, *messages: Any) -> None:
        self.messages = messages
        self.error: BaseException | None = None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        try:
            for message in self.messages:
                await send(message)
        except BaseException as error:
            self.error = error
            raise


STARTS = {"type": START, "status": 200}
ENDS = {"type": BODY, "body": b"body"}


@pytest.mark.parametrize("kind", [dict, MappingProxyType, UserDict, OrderedDict])
def test_a_message_is_any_mapping(kind: Callable[[Any], Any]) -> None:
    application = Sends(kind(STARTS), kind({**ENDS, "type": Text(BODY)}))
    with serving(application, interface=Interface.ASGI) as server, server.client() as client:
        assert client.get().body == b"body"
        assert (application.error, server.ledger.errors) == (None, [])


@pytest.mark.parametrize("message", [None, 5, START, [("type", START)], {}, {"type": None}, {"type": 5}, {1: 2}])
def test_what_is_no_message_is_refused(message: Any) -> None:
    application = Sends(message)
    with serving(application, interface=Interface.ASGI) as server, server.client() as client:
        assert client.get().status == 500
        wait_until(lambda: server.ledger.errors)
    assert isinstance(application.error, TypeError)
    assert "message" in str(application.error)
    assert "allowed is" in str(application.error)


# ---- WebSockets

ACCEPT, SEND, CLOSE = "websocket.accept", "websocket.send", "websocket.close"
WEBSOCKET = [
    *taken(ACCEPT, "headers", *BYTE_FIELDS),
    *refused(ACCEPT, "headers", *NO_BYTE_FIELDS),
    *taken(ACCEPT, "subprotocol", None, "chat", Text("chat")),
    *refused(ACCEPT, "subprotocol", b"chat", 5, "unheard", ["chat"]),
    *taken(SEND, "text", "text", Text("text")),
    *refused(SEND, "text", b"text", 5, [], ""[:0].encode()),
    *taken(SEND, "bytes", b"text", bytearray(b"text"), lambda: memoryview(b"text"), Octets(b"text")),
    *refused(SEND, "bytes", "text", 5, None, []),
    *taken(CLOSE, "code", 1000, Code.NORMAL, lambda: Indexed(1000), None, 0, 4999),
    *refused(CLOSE, "code", "1000", 1000.0, 1006, 99, 70000, []),
    *taken(CLOSE, "reason", None, "", "bye", Text("bye")),
    *refused(CLOSE, "reason", 5, b"bye", ["bye"]),
]


class Speaks(Application):
    """Accepts a WebSocket, sends a message, and closes."""

    def messages(self) -> Iterable[dict[str, Any]]:
        yield self.message(ACCEPT)
        yield self.message(SEND, **({} if self.given.message == SEND else {"text": "text"}))
        yield self.message(CLOSE)


@pytest.mark.parametrize("given", WEBSOCKET, ids=str)
def test_websocket(given: Given) -> None:
    application = Speaks(given)
    with serving(application, interface=Interface.ASGI) as server:
        host, port = server.address[:2]
        if given.is_taken:
            with connect(f"ws://{host}:{port}/", subprotocols=[Subprotocol("chat")]) as client:
                assert client.recv(PATIENCE) in ("text", b"text")
                with pytest.raises(ConnectionClosed):
                    client.recv(PATIENCE)
            assert (application.error, server.ledger.errors) == (None, [])
            return
        address = f"ws://{host}:{port}/"
        with (
            pytest.raises((InvalidStatus, ConnectionClosed)),
            connect(address, subprotocols=[Subprotocol("chat")]) as client,
        ):
            while True:
                client.recv(PATIENCE)
        wait_until(lambda: server.ledger.errors)
        assert_names_the_place(application.error, given)


# ---- WSGI

TEXT_PAIR = ("X-Given", "value")
START_RESPONSE = "start_response"
WSGI = [
    *taken(START_RESPONSE, "status", "200 OK", Text("200 OK")),
    *refused(START_RESPONSE, "status", 200, HTTPStatus.OK, b"200 OK", None, ["200 OK"]),
    *taken(
        START_RESPONSE, "headers",
        [TEXT_PAIR], (TEXT_PAIR,), [list(TEXT_PAIR)], [(Text("X-Given"), Text("value"))], [[Text("X-Given"), "value"]],
        lambda: iter([TEXT_PAIR]), {"X-Given": "value"}.items,
    ),
    *refused(
        START_RESPONSE, "headers",
        5, None, "ab", [5], [None], ["ab"], [TEXT_PAIR[:1]], [(*TEXT_PAIR, "more")], [PAIR], [("X-Given", 5)],
        [("X-Given", None)], {"X-Given": "value"},
    ),
    *taken("response", "body", [b"body"], (b"body",), lambda: iter([b"bo", b"dy"]), [Octets(b"body")], [b"", b"body"]),
    *refused("response", "body", ["body"], [5], "body", [None], [bytearray(b"body")]),
]  # fmt: skip


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("given", WSGI, ids=str)
def test_wsgi(given: Given, threads: int) -> None:
    errors: list[BaseException] = []

    def application(_: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        parts = {"status": "200 OK", "headers": [], "body": [b"body"], given.key: given.make()}
        try:
            start_response(parts["status"], parts["headers"])
        except BaseException as error:
            errors.append(error)
            raise
        return parts["body"]

    with serving(application, threads=threads) as server, server.client() as client:
        answer = client.get()
        if given.is_taken:
            assert (answer.status, answer.body, server.ledger.errors) == (200, b"body", [])
            if given.key == "headers":
                assert answer.fields["x-given"] == "value"
            return
        assert answer.status == 500
        wait_until(lambda: server.ledger.errors)
        [logged] = server.ledger.errors
        for part in (given.message, given.key, "found", "allowed is"):
            assert part in logged
        if given.message == START_RESPONSE:
            assert_names_the_place(errors[0], given)


class Reads:
    """A file-like object that gives this once."""

    def __init__(self, *given: Any) -> None:
        self.given = [*given, b""]

    def read(self, _: int) -> Any:
        return self.given.pop(0)


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize(("given", "status"), [(b"body", 200), (Octets(b"body"), 200), ("body", 500), (5, 500)])
def test_wsgi_file_wrapper(given: Any, status: int, threads: int) -> None:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](Reads(given), Indexed(4))

    with serving(application, threads=threads) as server, server.client() as client:
        assert client.get().status == status
        if status == 500:
            wait_until(lambda: server.ledger.errors)
            assert "found" in server.ledger.errors[0]


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("data", ["body", 5, None, bytearray(b"body")])
def test_wsgi_write(data: Any, threads: int) -> None:
    def application(_: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [])(data)
        return []

    with serving(application, threads=threads) as server, server.client() as client:
        assert client.get().status == 500
        wait_until(lambda: server.ledger.errors)
        assert "found" in server.ledger.errors[0]


@pytest.mark.parametrize("threads", [0, 2])
def test_exc_info_is_what_sys_exc_info_returns(threads: int) -> None:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        write = start_response("200 OK", [])
        if environ["PATH_INFO"] == "/late":
            write(b"some")
        start_response("500 Error", [], ["no", "tuple"])
        return [b"body"]

    with serving(application, threads=threads) as server, server.client() as client:
        assert client.get().body == b"body"  # Nothing was sent, so that it is not needed.
        with server.client() as late:
            late.send(request("/late"))
            assert b"some" in late.rest()
        wait_until(lambda: server.ledger.errors)
        assert "exc_info" in server.ledger.errors[0]


# ---- wsgi.input


INPUTS: dict[str, Callable[[Any], Any]] = {
    "read": lambda given: given.read(),
    "read none": lambda given: given.read(None),
    "read indexed": lambda given: given.read(Indexed(3)),
    "read1": lambda given: given.read1(4),
    "readinto": lambda given: (given.readinto(buffer := bytearray(5)), bytes(buffer)),
    "readline none": lambda given: given.readline(None),
    "readlines": lambda given: given.readlines(None),
    "next": lambda given: [next(given), next(given), next(given, "over")],
    "iterated": list,
    "sought": lambda given: (given.seek(3), given.tell(), given.seek(-2, 2), given.read()),
    "kinds": lambda given: (given.readable(), given.seekable(), given.writable(), given.isatty(), given.closed),
    "text": lambda given: io.TextIOWrapper(given, "utf-8").read(),
    "text by line": lambda given: list(io.TextIOWrapper(given, "utf-8")),
    "buffered": lambda given: io.BufferedReader(given).read(),
    "refused": lambda given: refusal_of(lambda: given.read("5")),
}


def refusal_of(call: Callable[[], object]) -> str:
    with pytest.raises(TypeError) as caught:
        call()
    return type(caught.value).__name__


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("way", INPUTS)
def test_wsgi_input_is_read_like_a_buffered_reader(way: str, threads: int) -> None:
    """The same as of a file with the same bytes, for a body in memory and for one on the disk."""
    results: list[Any] = []

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        results.append(INPUTS[way](environ["wsgi.input"]))
        start_response("200 OK", [])
        return []

    for body in (b"first line\nsecond\n", b"first line\n" + b"x" * 100_000 + b"\n"):
        with serving(application, threads=threads) as server, server.client() as client:
            assert client.get(method="POST", body=body).status == 200
        assert results.pop() == INPUTS[way](io.BytesIO(body) if way != "kinds" else ReadOnly(body))


class ReadOnly(io.BytesIO):
    def writable(self) -> bool:
        return False

"""What applications may pass to a server: as the specifications say, as other servers tolerate it, and neither.

Each value stands in a message or a call that is otherwise right.
"""

import re
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any


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
    return copy(value)  # A server may change a list that it is given.


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


class WsgiApplication:
    """Answers one request, with the value that is given. Keeps the error that it got."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.error: BaseException | None = None

    def __call__(self, _: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        parts = {"status": "200 OK", "headers": [], "body": [b"body"], self.given.key: self.given.make()}
        try:
            start_response(parts["status"], parts["headers"])
        except BaseException as error:
            self.error = error
            raise
        return parts["body"]

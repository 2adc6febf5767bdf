"""What applications may pass to the server: as the specifications say, as other servers tolerate it, and neither.

Each value stands in a message or a call that is otherwise right. What is refused is refused by an error that names the
place, in the same words by the interpreted and the compiled engine.
"""

import io
from collections import OrderedDict, UserDict
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from clusterd.http.settings import Interface
from tests.support.application_messages import (
    BODY,
    HINT,
    HTTP,
    MESSAGES_FILE,
    PATHSEND,
    START,
    START_RESPONSE,
    WEBSOCKET,
    WSGI,
    Application,
    Given,
    Indexed,
    Octets,
    Speaks,
    Text,
    WsgiApplication,
)
from tests.support.serving import PATIENCE, request, serving, wait_until


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


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("given", WSGI, ids=str)
def test_wsgi(given: Given, threads: int) -> None:
    application = WsgiApplication(given)
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
            assert_names_the_place(application.error, given)


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

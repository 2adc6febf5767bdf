"""What is put around an application while requests in hand are written down changes nothing of what it does."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from typing import Any

import pytest

from clusterd.app.application import LoadedApplication
from clusterd.http.settings import Interface
from clusterd.http.wsgi.file_wrapper import FileWrapper
from clusterd.metrics.shared.scoreboard import Scoreboard
from clusterd.worker.call_watch import CallWatch

ENVIRON = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/shop", "PATH_INFO": "/a b/\xc3\xa4%", "QUERY_STRING": "secret"}
AS_WRITTEN = "GET /shop/a%20b/%C3%A4%25"


class Adapter:
    def __init__(self) -> None:
        self.used: list[Callable[..., Any]] = []

    def use(self, application: Callable[..., Any]) -> None:
        self.used.append(application)


class Engine:
    def __init__(self) -> None:
        self.adapter = Adapter()


@pytest.fixture
def scoreboard() -> Iterator[Scoreboard]:
    made = Scoreboard.create()
    yield made
    made.close()


def watched(scoreboard: Scoreboard, application: Callable[..., Any], interface: Interface) -> Callable[..., Any]:
    engine = Engine()
    watch = CallWatch(LoadedApplication(application, interface), engine, scoreboard, 0)  # type: ignore[arg-type]
    watch.tick(1000)
    assert engine.adapter.used == []
    scoreboard.watched_until = 2000
    watch.tick(1000)
    watch.tick(1999)
    watch.tick(2000)
    watch.tick(3000)
    [around, as_it_was] = engine.adapter.used
    assert as_it_was is application
    return around


@pytest.mark.parametrize(
    "result", [[b"x"], (b"x", b"y"), FileWrapper(BytesIO(b"x"))], ids=lambda each: type(each).__name__
)
def test_what_is_there_as_a_whole_is_over_with_the_call(scoreboard: Scoreboard, result: Iterable[bytes]) -> None:
    in_hand, seen = scoreboard.in_hand(0), []

    def application(environ: dict[str, Any], start_response: object) -> Iterable[bytes]:
        seen.append((environ, start_response, in_hand.requests()))
        return result

    start_response = object()
    assert watched(scoreboard, application, Interface.WSGI)(ENVIRON, start_response) is result
    assert seen == [(ENVIRON, start_response, (AS_WRITTEN,))]
    assert in_hand.requests() == ()


def test_what_is_made_as_it_is_sent_is_in_hand_until_it_is_closed(scoreboard: Scoreboard) -> None:
    in_hand, closed = scoreboard.in_hand(0), []

    def application(_: dict[str, Any], __: object) -> Iterator[bytes]:
        try:
            yield b"a"
            yield b"b"
        finally:
            closed.append(in_hand.requests())

    body: Any = watched(scoreboard, application, Interface.WSGI)(ENVIRON, None)
    pieces = iter(body)
    assert (next(pieces), in_hand.requests(), closed) == (b"a", (AS_WRITTEN,), [])
    body.close()
    assert closed == [(AS_WRITTEN,)]
    assert in_hand.requests() == ()


def test_a_call_that_raises_is_over(scoreboard: Scoreboard) -> None:
    def application(_: dict[str, Any], __: object) -> list[bytes]:
        raise LookupError

    with pytest.raises(LookupError):
        watched(scoreboard, application, Interface.WSGI)(ENVIRON, None)
    assert scoreboard.in_hand(0).requests() == ()


def test_an_asgi_call_is_in_hand_until_it_returns_and_a_websocket_never(scoreboard: Scoreboard) -> None:
    in_hand, seen = scoreboard.in_hand(0), []

    async def application(scope: dict[str, Any], receive: object, send: object) -> None:
        await asyncio.sleep(0)
        seen.append((scope["type"], receive, send, in_hand.requests()))
        if scope["type"] == "http":
            raise LookupError

    around = watched(scoreboard, application, Interface.ASGI)
    with pytest.raises(LookupError):
        asyncio.run(around({"type": "http", "method": "GET", "raw_path": b"/a%20b/\xff"}, 1, 2))
    asyncio.run(around({"type": "websocket", "raw_path": b"/"}, 3, 4))
    assert seen == [("http", 1, 2, ("GET /a%20b/%FF",)), ("websocket", 3, 4, ())]
    assert in_hand.requests() == ()

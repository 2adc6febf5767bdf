"""A WSGI application may run an event loop of its own wherever it is called, on the server's loop as well."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

from tests.support.serving import PATIENCE, request, serving, wait_until

Runs = Callable[[Any], object]


async def works() -> bytes:
    await asyncio.sleep(0)
    return b"worked"


def no_loop_runs() -> None:
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


class Application:
    """Runs loops in the call, between the pieces, in `write`'s neighbourhood, and in close()."""

    def __init__(self, run: Runs) -> None:
        self.run = run
        self.closed = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        no_loop_runs()
        called = self.run(works())
        write = start_response("200 OK", [])
        if environ["PATH_INFO"] == "/written":
            write(called)
            return [self.run(works())]
        if environ["PATH_INFO"] == "/raises":
            raise RuntimeError(called)
        return [called] if environ["PATH_INFO"] == "/whole" else Pieces(self)


class Pieces:
    def __init__(self, application: Application) -> None:
        self.application = application

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(3):
            no_loop_runs()
            yield self.application.run(works())  # type: ignore[misc]
        if not self.application.closed.is_set():
            yield b"x" * 100

    def close(self) -> None:
        no_loop_runs()
        self.application.run(works())
        self.application.closed.set()


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_an_application_runs_a_loop(run: Runs, threads: int) -> None:
    application = Application(run)
    with serving(application, threads=threads) as server, server.client() as client:
        for _ in range(3):
            assert client.get("/whole").body == b"worked"
            assert client.get("/written").body == b"worked" * 2
            assert client.get("/pieces").body.startswith(b"worked" * 3)
            assert application.closed.wait(PATIENCE)
            assert client.get("/raises").status == 500
        assert server.on_loop(asyncio.get_running_loop) is server.loop
        assert [each for each in server.ledger.errors if "RuntimeError: b'worked'" not in each] == []


@pytest.mark.parametrize("threads", [0, 2])
def test_so_does_the_close_of_a_response_that_is_given_up(threads: int) -> None:
    application = Application(asyncio.run)

    def endless(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response("200 OK", [])
        return Endless(application)

    class Endless(Pieces):
        def __iter__(self) -> Iterator[bytes]:
            while True:
                yield b"x" * 100_000

    with serving(endless, threads=threads) as server:
        with server.client() as client:
            client.send(request())
            client.socket.recv(1)
        assert application.closed.wait(PATIENCE)
        wait_until(lambda: not server.engine.connections)
        assert server.on_loop(asyncio.get_running_loop) is server.loop
        assert server.ledger.errors == []

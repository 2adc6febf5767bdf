"""A WSGI application may run an event loop of its own wherever it is called, on the server's loop as well."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
import uvloop

from clusterd.http.hidden_loop import hide, started
from tests.support.serving import PATIENCE, Serving, request, serving, wait_until

Runs = Callable[[Any], object]


async def works() -> bytes:
    await asyncio.sleep(0)
    return b"worked"


def no_loop_runs() -> None:
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def seen_by_a_task(server: Serving) -> asyncio.AbstractEventLoop:
    """The running loop, for a task that has waited."""

    async def look() -> asyncio.AbstractEventLoop:
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    return asyncio.run_coroutine_threadsafe(look(), server.loop).result(PATIENCE)


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
        assert seen_by_a_task(server) is server.loop
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
        assert seen_by_a_task(server) is server.loop
        assert server.ledger.errors == []


# ---- the tasks of a loop that is hidden


async def times_out() -> str:
    try:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()
    except TimeoutError:
        return "timed out"
    return "did not"


async def gathers() -> list[int]:
    async def number(value: int) -> int:
        await asyncio.sleep(0)
        return value

    return await asyncio.gather(*(number(each) for each in range(3)))


async def is_cancelled() -> list[str]:
    story: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            story.append("cancelled")
            await asyncio.sleep(0)
            story.append("cleaned up")
            raise

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        story.append("ended")
    return story


async def raises() -> str:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError("from within")

    try:
        await asyncio.create_task(fails())
    except KeyError as error:
        return str(error)
    return "nothing"


async def asks_a_thread() -> int:
    return await asyncio.to_thread(lambda: 7)


async def has_its_context() -> list[str]:
    variable: ContextVar[str] = ContextVar("variable", default="default")
    variable.set("mine")

    async def looks() -> str:
        before = variable.get()
        variable.set("its own")
        await asyncio.sleep(0)
        return f"{before}, {variable.get()}"

    return [await asyncio.create_task(looks()), variable.get()]


async def iterates() -> list[int]:
    async def numbers() -> AsyncIterator[int]:
        for each in range(3):
            await asyncio.sleep(0)
            yield each

    return [each async for each in numbers()]


TASKS = [times_out, gathers, is_cancelled, raises, asks_a_thread, has_its_context, iterates]


@pytest.mark.parametrize("make_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
@pytest.mark.parametrize("task", TASKS)
def test_a_task_runs_as_on_any_loop(
    task: Callable[[], Coroutine[Any, Any, Any]], make_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    loop = make_loop()
    seen: list[object] = []

    def conclude(done: "asyncio.Task[Any]") -> None:
        seen.append(done.result())
        no_loop_runs()
        loop.stop()

    def begin() -> None:
        no_loop_runs()
        loop.create_task(task()).add_done_callback(conclude)

    hide(loop)
    loop.call_soon(begin)
    loop.run_forever()
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert seen == [asyncio.run(task())]


def test_stacks_are_those_of_what_a_task_was_started_with() -> None:
    async def waits() -> None:
        loop.call_soon(loop.stop)
        await asyncio.sleep(60)

    loop = uvloop.new_event_loop()
    hide(loop)
    coroutine = waits()
    task = loop.create_task(coroutine)
    loop.run_forever()
    assert started(task.get_coro()) is coroutine
    assert started(coroutine) is coroutine
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    loop.close()

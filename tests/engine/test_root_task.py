"""The task for which the loop of an ASGI application runs: AnyIO keeps threads for it, and nothing ends it but a leave.

Starlette and FastAPI use AnyIO's threads for what is not async.
"""

import asyncio
import threading
from typing import Any

import anyio.to_thread

from clusterd.http.settings import Interface
from clusterd.http.wsgi.on_loop import OnLoopInTask
from tests.support.serving import serving


def test_threads_outlive_the_request_that_started_them() -> None:
    """Each call of a function that is not async had a thread of its own started and ended."""
    used: set[threading.Thread] = set()

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        thread = await anyio.to_thread.run_sync(threading.current_thread)
        used.add(thread)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": thread.name.encode()})

    with serving(application, interface=Interface.ASGI) as server, server.client() as client:
        for _ in range(5):
            assert client.get("/").status == 200
        assert len(used) == 1
        assert all(thread.is_alive() for thread in used)
    for thread in used:
        thread.join(10)
        assert not thread.is_alive()


def test_an_application_that_cancels_all_tasks_is_served_on() -> None:
    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["path"] == "/cancel":
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"served"})

    with serving(application, interface=Interface.ASGI) as server, server.client() as client:
        for path in ("/cancel", "/", "/cancel", "/"):
            assert client.get(path).body == b"served"


def test_a_loop_that_the_application_stops_ends_as_if_it_was_left() -> None:
    loop = asyncio.new_event_loop()
    runner = OnLoopInTask(loop)
    loop.call_soon(loop.stop)
    runner.run()
    runner.leave()
    loop.run_until_complete(asyncio.sleep(0))
    assert not asyncio.all_tasks(loop)
    loop.close()

"""What ASGI applications run in threads: AnyIO's, which Starlette and FastAPI use for what is not async."""

import threading
from typing import Any

import anyio.to_thread

from clusterd.http.settings import Interface
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

"""Other servers, run in a thread of the test: what they make of an application is compared with what clusterd does."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import uvicorn

from tests.support.serving import PATIENCE, wait_until

Address = tuple[str, int]


@contextmanager
def uvicorn_serving(application: Any) -> Iterator[Address]:
    """uvicorn, by the parsers that are plain Python."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        configuration = uvicorn.Config(
            application, loop="asyncio", http="h11", ws="websockets-sansio", lifespan="off", log_config=None
        )
        server = uvicorn.Server(configuration)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join(PATIENCE)


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass

    def get_stderr(self) -> StringIO:
        return StringIO()


@contextmanager
def wsgiref_serving(application: Any) -> Iterator[Address]:
    """The server of the standard library."""
    with make_server("127.0.0.1", 0, application, handler_class=_Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[0], server.server_address[1]  # type: ignore[misc]
        finally:
            server.shutdown()
            thread.join(PATIENCE)

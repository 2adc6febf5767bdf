"""Runs Django's own tests with an engine in place of their live server: `python -m ... RUNTESTS.PY LABELS`.

The server runs the application in threads, which use the connections to databases that the tests have given it.
"""

import runpy
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.db import connections
from django.test.testcases import LiveServerThread

from tests.support.serving import serving

THREADS = 4
MADE: list["EngineServer"] = []


class EngineServer:
    """What LiveServerThread asks of a server of wsgiref's kind."""

    def __init__(self, connections_override: Mapping[str, Any] | None) -> None:
        self._override = connections_override or {}
        self._application: Callable[..., Any] | None = None
        self._over = threading.Event()
        self._stack = ExitStack()
        self._server = self._stack.enter_context(serving(self._call, threads=THREADS))
        self.server_address = self._server.address
        MADE.append(self)

    def _call(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        for alias, connection in self._override.items():
            connections[alias] = connection
        assert self._application is not None
        return self._application(environ, start_response)

    def set_app(self, application: Callable[..., Any]) -> None:
        self._application = application

    def serve_forever(self) -> None:
        self._over.wait()

    def shutdown(self) -> None:
        self._stack.close()
        self._over.set()

    def server_close(self) -> None:
        """It is."""


def create(thread: Any, connections_override: Mapping[str, Any] | None = None) -> EngineServer:
    if thread.port:
        raise OSError("this server takes a free port")
    return EngineServer(connections_override)


if __name__ == "__main__":
    LiveServerThread._create_server = create  # noqa: SLF001 - the way that Django's own tests take
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        for server in MADE:  # Some tests make one and do not end it.
            server.shutdown()

"""An application for each interface that sends files, and says what becomes of them."""

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from clusterd.http.settings import Interface
from tests.support.serving import PATIENCE, Serving, serving

WAYS = ["wsgi", "wsgi in threads", "asgi"]


class Disk:
    """Files, and an application for each interface that sends them: /NAME?position=N&length=N."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.closed: list[str] = []
        self.closers: set[str] = set()
        """The threads that closed them."""
        self.may_close = threading.Event()
        """Cleared, the application's close() waits for it."""
        self.may_close.set()
        self.opened = threading.Event()

    def write(self, name: str, size: int) -> bytes:
        data = os.urandom(min(size, 1 << 20)) * (size // (1 << 20) + 1)
        (self.directory / name).write_bytes(data[:size])
        return data[:size]

    def wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        name = environ["PATH_INFO"].strip("/")
        if not name:
            start_response("200 OK", [])
            return [b"hello"]
        options = dict(each.split("=") for each in environ["QUERY_STRING"].split("&") if each)
        file = (self.directory / name).open("rb")
        file.seek(int(options.get("position", 0)))
        start_response("200 OK", [("Content-Length", options["length"])] if "length" in options else [])
        wrapped = environ["wsgi.file_wrapper"](file)
        disk, close = self, wrapped.close

        def note_and_close() -> None:
            disk.may_close.wait(PATIENCE)
            disk.closers.add(threading.current_thread().name)
            disk.closed.append(name)
            close()

        wrapped.close = note_and_close
        self.opened.set()
        return wrapped

    async def asgi(self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        name = scope["path"].strip("/")
        options = dict(each.split("=") for each in scope["query_string"].decode().split("&") if each)
        lengths = [(b"content-length", options["length"].encode())] if "length" in options else []
        await send({"type": "http.response.start", "status": 200, "headers": lengths})
        if name:
            self.opened.set()
            try:
                await send({"type": "http.response.pathsend", "path": str(self.directory / name)})
            finally:
                self.closed.append(name)
        else:
            await send({"type": "http.response.body", "body": b"hello"})

    def serving(self, way: str, **settings: Any) -> AbstractContextManager[Serving]:
        """Serve the files in one of WAYS, for the length of the block."""
        if way == "asgi":
            return serving(self.asgi, interface=Interface.ASGI, **settings)
        return serving(self.wsgi, **{"threads": 0 if way == "wsgi" else 2, **settings})

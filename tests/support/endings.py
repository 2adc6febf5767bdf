"""Applications that note how they end, and the ways in which a worker ends in the ordinary course."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.processes import is_alive
from tests.support.service import Service, wait_until

NOTE = """
import os
def note(what):
    with open(NOTES, "a") as notes:
        notes.write(f"{os.getpid()} {what}\\n")
"""

WSGI = """
def app(environ, start_response):
    start_response("200 OK", [])
    return [answer(environ["PATH_INFO"]).encode()]
"""

ASGI = """
import asyncio
async def app(scope, receive, send):
    if scope["type"] != "http":
        while True:
            event = (await receive())["type"]
            note(event)
            await send({"type": event + ".complete"})
            if event.endswith("shutdown"):
                return
    body = (await answer(scope["path"])).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""

Ending = Callable[[Service], None]


def reload(service: Service) -> None:
    assert service.reload().returncode == 0


def stop(service: Service) -> None:
    assert service.stop() == 0


def recycle(service: Service) -> None:
    assert service.clusterctl("restart", "1").returncode == 0


ENDINGS = pytest.mark.parametrize("end", [reload, stop, recycle])
PRELOADS = pytest.mark.parametrize("preload", [True, False])


class Noted:
    """One worker that serves an application, and what its application has noted."""

    def __init__(self, service: Service, notes: Path) -> None:
        self.service = service
        self._notes = notes
        self.pid = service.workers()[0]["pid"]

    def ask(self, path: str = "/") -> str:
        return self.service.get(path).text

    def of_worker(self) -> list[str]:
        """What the worker that served first has noted, in order."""
        return [what for pid, what in self._read() if pid == self.pid]

    def of_others(self) -> list[str]:
        return [what for pid, what in self._read() if pid != self.pid]

    def after(self, end: Ending) -> list[str]:
        """What the worker has noted by the time it is gone."""
        end(self.service)
        wait_until(lambda: not is_alive(self.pid), "the worker is gone")
        return self.of_worker()

    def _read(self) -> list[tuple[int, str]]:
        if not self._notes.exists():
            return []
        return [(int(line.split()[0]), line.split(maxsplit=1)[1]) for line in self._notes.read_text().splitlines()]


Serve = Callable[..., Noted]

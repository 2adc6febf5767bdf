"""An application that forks in a request: its child is no worker, and ends when it comes back from the call."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.clients import connect
from tests.support.processes import descendants
from tests.support.service import Service, wait_until
from tests.support.serving import Client

MakeService = Callable[..., Service]

WSGI = """
import os

def forked(path):
    pid = os.fork()
    if not pid and path.endswith("raises"):
        raise RuntimeError("in the child")
    return str(pid)

def app(environ, start_response):
    path = environ["PATH_INFO"]
    pid = forked(path) if "forks" in path else ""
    write = start_response("200 OK", [])
    if path.startswith("/write"):
        write(f"{os.getpid()} {pid}".encode())
        return []
    return pieces(pid) if path.startswith("/pieces") else [f"{os.getpid()} {pid}".encode()]

def pieces(pid):
    yield f"{os.getpid()} ".encode()
    if not pid:
        pid = forked("")
    yield str(pid).encode()
"""
ASGI = """
import os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError
    path, pid = scope["path"], ""
    if "forks" in path:
        pid = os.fork()
        if not pid and path.endswith("raises"):
            raise RuntimeError("in the child")
        if not pid and path.endswith("returns"):
            return
        if not pid and path.endswith("receives"):
            await receive()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": f"{os.getpid()} {pid}".encode()})
"""
WSGI_PATHS = ["/forks", "/forks-raises", "/write-forks", "/pieces-forks", "/pieces"]
ASGI_PATHS = ["/forks", "/forks-raises", "/forks-returns", "/forks-receives"]
KINDS = [*((WSGI, threads, WSGI_PATHS) for threads in (0, 2)), (ASGI, 1, ASGI_PATHS)]


@pytest.mark.parametrize(("application", "threads", "paths"), KINDS, ids=["wsgi", "wsgi in threads", "asgi"])
def test_a_child_that_comes_back_ends(
    make_service: MakeService, application: str, threads: int, paths: list[str]
) -> None:
    service = make_service(workers=1, threads=threads)
    service.deploy("1", application)
    service.start()
    worker = service.workers()[0]["pid"]
    before = set(descendants(service.pid))
    with Client(connect(service)) as client:
        for path in paths:
            parent, child = client.get(path).body.decode().split()
            assert int(parent) == worker
            assert int(child) != 0
            # Nothing of the child is on the connection.
            assert client.get("/").body.decode().split() == [parent]
    wait_until(lambda: set(descendants(service.pid)) <= before or zombies(service, before), "the children have ended")
    assert service.log().count("came back from its call") == len(paths)
    assert service.log().count("RuntimeError: in the child") == 1
    assert service.stop() == 0


def zombies(service: Service, before: set[int]) -> bool:
    """Whether what is left has ended, and nobody has asked for its status: that is the application's."""
    left = set(descendants(service.pid)) - before
    return all(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z" for pid in left)

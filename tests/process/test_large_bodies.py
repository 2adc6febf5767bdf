"""Bodies larger than memory should have to hold: the worker's peak does not grow with them."""

import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.service import Service

MakeService = Callable[..., Service]

BODY_BYTES = int(os.environ.get("CLUSTERD_TEST_BODY_MEGABYTES", "2048")) << 20
STORED_BYTES = int(os.environ.get("CLUSTERD_TEST_BODY_MEGABYTES", "256")) << 20
"""Of an upload to a WSGI application: it is stored as a whole before the call, and not every disk is fast."""
PIECE = bytes(range(256)) * 4096
MOST_GROWTH_BYTES = 24 << 20

WSGI = """
import hashlib

PIECE = bytes(range(256)) * 4096

def app(environ, start_response):
    if environ["REQUEST_METHOD"] == "GET":
        start_response("200 OK", [])
        if environ["PATH_INFO"] == "/file":
            return environ["wsgi.file_wrapper"](open(environ["QUERY_STRING"], "rb"))
        return (PIECE for _ in range(int(environ["QUERY_STRING"])))
    digest = hashlib.sha256()
    while piece := environ["wsgi.input"].read(1 << 20):
        digest.update(piece)
    start_response("200 OK", [])
    return [digest.hexdigest().encode()]
"""

ASGI = """
import hashlib

PIECE = bytes(range(256)) * 4096

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/file":
        await send({"type": "http.response.pathsend", "path": scope["query_string"].decode()})
        return
    if scope["method"] == "GET":
        for _ in range(int(scope["query_string"])):
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        await send({"type": "http.response.body"})
        return
    digest = hashlib.sha256()
    message = {"more_body": True}
    while message["more_body"]:
        message = await receive()
        digest.update(message["body"])
    await send({"type": "http.response.body", "body": digest.hexdigest().encode()})
"""


def peak(pid: int) -> int:
    """The most memory a process has had resident so far, in bytes (proc_pid_status(5): VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no VmHWM")


@dataclass(frozen=True)
class Kind:
    """A way to be served, and how much is uploaded to it."""

    application: str
    threads: int
    upload_bytes: int


KINDS = {
    "wsgi-loop": Kind(WSGI, 0, STORED_BYTES),
    "wsgi-threads": Kind(WSGI, 4, STORED_BYTES),
    "asgi": Kind(ASGI, 0, BODY_BYTES),
}


@pytest.fixture(params=list(KINDS.values()), ids=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


@pytest.fixture
def service(kind: Kind, make_service: MakeService) -> Service:
    service = make_service(workers=1, threads=kind.threads, limits={"body": "4G"}, timeouts={"hang": "120s"})
    service.deploy("1", kind.application)
    service.start()
    service.get("/?1")
    return service


def pieces(size: int) -> Iterator[bytes]:
    for _ in range(size // len(PIECE)):
        yield PIECE


def test_an_upload_costs_no_memory(service: Service, kind: Kind) -> None:
    size = kind.upload_bytes
    pid = service.workers()[0]["pid"]
    before = peak(pid)
    digest = hashlib.sha256()
    for piece in pieces(size):
        digest.update(piece)
    with socket.create_connection(("127.0.0.1", service.port), timeout=120) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size)
        for piece in pieces(size):
            client.sendall(piece)
        answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
    assert answer.endswith(digest.hexdigest().encode()), answer
    assert peak(pid) - before < MOST_GROWTH_BYTES


def test_a_download_costs_no_memory_however_slowly_it_is_read(service: Service) -> None:
    download_costs_no_memory(service, f"/?{BODY_BYTES // len(PIECE)}")


def test_neither_does_a_file(service: Service, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(BODY_BYTES)  # a hole: nothing of it is on the disk
    download_costs_no_memory(service, f"/file?{tmp_path}/file")


def download_costs_no_memory(service: Service, target: str) -> None:
    pid = service.workers()[0]["pid"]
    before = peak(pid)
    received = 0
    with socket.create_connection(("127.0.0.1", service.port), timeout=120) as client:
        client.sendall(b"GET %s HTTP/1.0\r\nHost: x\r\n\r\n" % target.encode())
        # Nothing is read while the worker answers others: time enough to get far ahead of this client.
        for _ in range(50):
            service.get("/?1")
        while chunk := client.recv(1 << 18):
            received += len(chunk)
    assert received > BODY_BYTES
    assert peak(pid) - before < MOST_GROWTH_BYTES

"""Bodies larger than memory should have to hold: the worker's peak does not grow with them."""

import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.process.service import Service

MakeService = Callable[..., Service]

BODY_BYTES = int(os.environ.get("CLUSTERD_TEST_BODY_MEGABYTES", "256")) << 20
PIECE = bytes(range(256)) * 4096
MOST_GROWTH_BYTES = 24 << 20

APPLICATION = """
import hashlib

PIECE = bytes(range(256)) * 4096

def app(environ, start_response):
    if environ["REQUEST_METHOD"] == "GET":
        start_response("200 OK", [])
        return (PIECE for _ in range(int(environ["QUERY_STRING"])))
    digest = hashlib.sha256()
    while piece := environ["wsgi.input"].read(1 << 20):
        digest.update(piece)
    start_response("200 OK", [])
    return [digest.hexdigest().encode()]
"""


def peak(pid: int) -> int:
    """The most memory a process has had resident so far, in bytes (proc_pid_status(5): VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no VmHWM")


@pytest.fixture(params=[0, 4])
def service(request: pytest.FixtureRequest, make_service: MakeService) -> Service:
    service = make_service(workers=1, threads=request.param, limits={"body": "4G"}, timeouts={"hang": "120s"})
    service.deploy("1", APPLICATION)
    service.start()
    service.get("/?1")
    return service


def pieces() -> Iterator[bytes]:
    for _ in range(BODY_BYTES // len(PIECE)):
        yield PIECE


def test_an_upload_costs_no_memory(service: Service) -> None:
    pid = service.workers()[0]["pid"]
    before = peak(pid)
    digest = hashlib.sha256()
    for piece in pieces():
        digest.update(piece)
    with socket.create_connection(("127.0.0.1", service.port), timeout=120) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % BODY_BYTES)
        for piece in pieces():
            client.sendall(piece)
        answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
    assert answer.endswith(digest.hexdigest().encode()), answer
    assert peak(pid) - before < MOST_GROWTH_BYTES


def test_a_download_costs_no_memory_however_slowly_it_is_read(service: Service) -> None:
    pid = service.workers()[0]["pid"]
    before = peak(pid)
    received = 0
    with socket.create_connection(("127.0.0.1", service.port), timeout=120) as client:
        client.sendall(b"GET /?%d HTTP/1.0\r\nHost: x\r\n\r\n" % (BODY_BYTES // len(PIECE)))
        # Nothing is read while the worker answers others: time enough to get far ahead of this client.
        for _ in range(50):
            service.get("/?1")
        while chunk := client.recv(1 << 18):
            received += len(chunk)
    assert received > BODY_BYTES
    assert peak(pid) - before < MOST_GROWTH_BYTES

"""Files on their way by sendfile(2) when something goes wrong, takes long, or is not there."""

import asyncio
import errno
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clusterd.http.settings import Interface
from tests.support.disk import WAYS, Disk
from tests.support.service import Service
from tests.support.serving import PATIENCE, asked_before, request, serving, wait_until

LARGE = 50_000_000
ONE_THREAD = "wsgi in threads"

SERVES_ITSELF = """
import os
from pathlib import Path

FILE = Path(os.environ["TMPDIR_OF_TEST"]) / "file"

def app(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/file":
        return environ["wsgi.file_wrapper"](FILE.open("rb"))
    return [b"hello"]
"""


def broken(number: int) -> Callable[..., int]:
    def call(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    return call


def test_a_filesystem_that_knows_no_sendfile_is_read(
    serve_disk: Callable[..., Any], disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clusterd.http.connections.transports.transfer.os.sendfile", broken(errno.EINVAL))
    data = disk.write("file", 3_000_000)
    with serve_disk() as server, server.client() as client:
        for _ in range(2):
            assert client.get("/file").body == data


def test_without_another_descriptor_the_file_is_read(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusterd.http.wsgi.exchange.os.dup", broken(errno.EMFILE))
    data = disk.write("file", 3_000_000)
    for way in WAYS[:2]:
        with disk.serving(way) as server, server.client() as client:
            assert client.get("/file").body == data


def test_a_disk_that_fails_on_the_way_ends_the_connection(
    serve_disk: Callable[..., Any], disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.write("file", LARGE)
    monkeypatch.setattr("clusterd.http.connections.transports.transfer.os.sendfile", broken(errno.EIO))
    monkeypatch.setattr("clusterd.http.connections.transports.transfer.os.pread", broken(errno.EIO))
    with serve_disk() as server, server.client() as client:
        client.send(request("/file"))
        assert client.answer_head().fields["content-length"] == str(LARGE)
        assert client.rest() == b""
        wait_until(lambda: any("less than its Content-Length" in line for line in server.ledger.errors))


@pytest.mark.parametrize("lines", [(), ("Connection: close",)])
def test_it_can_be_the_first_answer_of_a_new_connection(
    serve_disk: Callable[..., Any], disk: Disk, lines: tuple[str, ...]
) -> None:
    data = disk.write("file", LARGE)
    with serve_disk() as server, asked_before(server, request("/file", *lines)) as client:
        assert client.answer().body == data
        if lines:
            assert client.rest() == b""
        else:
            assert client.get("/").body == b"hello"


def test_the_time_of_a_request_counts(serve_disk: Callable[..., Any], disk: Disk) -> None:
    disk.write("file", LARGE)
    with serve_disk(timeouts={"request": 0.3}) as server, server.client() as client:
        client.send(request("/file"))
        head = client.answer_head()
        wait_until(server.ledger.timeouts.total)
        assert len(client.rest()) < int(head.fields["content-length"])
        wait_until(lambda: disk.closed == ["file"])
        with server.client() as another:
            assert another.get("/").body == b"hello"


def test_a_client_waits_neither_for_close_nor_for_a_thread(disk: Disk) -> None:
    data = disk.write("file", LARGE)
    disk.may_close.clear()
    with disk.serving(ONE_THREAD, threads=1) as server, server.client() as client, server.client() as other:
        try:
            assert client.get("/file").body == data
            other.send(request("/"))
            wait_until(lambda: server.engine.runners.waiting)
            assert disk.closed == []
        finally:
            disk.may_close.set()
        assert other.answer().body == b"hello"
        assert client.get("/").body == b"hello"
        assert disk.closed == ["file"]
    assert disk.closers == {"clusterd-1"}


def test_close_has_its_place_in_a_full_queue(disk: Disk) -> None:
    """It is the rest of a request that was let in, and never refused; nor is it taken for one that waited too long."""
    data = disk.write("file", LARGE)
    held, may_end = threading.Event(), threading.Event()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if environ["PATH_INFO"] == "/held":
            held.set()
            may_end.wait(PATIENCE)
        return disk.wsgi(environ, start_response)

    settings: dict[str, Any] = {"threads": 1, "limits": {"queue": 1}, "timeouts": {"queue": 0.2}}
    with serving(app, **settings) as server, server.client() as client:
        client.send(request("/file"))
        client.answer_head()
        try:
            with server.client() as holds, server.client() as waits:
                holds.send(request("/held"))
                assert held.wait(PATIENCE)
                waits.send(request("/"))
                wait_until(lambda: server.engine.runners.waiting == 1)
                assert client.read(len(data)) == data
                assert waits.answer().status == 503  # after timeouts.queue
                assert disk.closed == []
        finally:
            may_end.set()
        wait_until(lambda: disk.closed == ["file"] and not server.engine.runners.busy)
        assert client.get("/").body == b"hello"
        assert disk.closers == {"clusterd-1"}


def test_an_application_that_gives_up_sending_it_ends_the_connection(disk: Disk) -> None:
    """Nothing more can be sent in its place, and the file must not go on once it is closed."""
    disk.write("file", LARGE)
    given_up: list[type[BaseException]] = []

    async def app(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        try:
            await asyncio.wait_for(disk.asgi(scope, receive, send), 0.2)
        except TimeoutError as error:
            given_up.append(type(error))
            raise

    before = len(os.listdir("/proc/self/fd"))
    with serving(app, interface=Interface.ASGI) as server:
        with server.client() as client:
            client.send(request("/file"))
            head = client.answer_head()
            wait_until(lambda: given_up)
            assert len(client.rest()) < int(head.fields["content-length"])
        with server.client() as client:
            assert client.get("/").body == b"hello"
    assert len(os.listdir("/proc/self/fd")) <= before


def test_what_a_drain_cuts_is_in_the_log(make_service: Callable[..., Service], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(LARGE))
    service = make_service(workers=1, timeouts={"drain": "500ms"}, environment={"TMPDIR_OF_TEST": str(tmp_path)})
    service.deploy("1", SERVES_ITSELF)
    service.start()
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as client:
        client.sendall(request("/file"))
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
        service.signal(signal.SIGHUP)
        service.wait_for_line("request cut at the end of the drain .*target=/file")
        service.wait_for_line("worker ended.*reason=rollout")

"""Files that go out by sendfile(2): the same bytes, in every order that clients and files can meet them."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterd.http.connections.transports import transfer
from tests.support.certificates import NAME, make_certificate
from tests.support.disk import Disk
from tests.support.serving import PATIENCE, Client, Serving, request, serving, wait_until

LARGE = 50_000_000
SIZES = [0, 1, transfer.SMALL_BYTES, transfer.SMALL_BYTES + 1, 3_000_000, LARGE]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """What each call of sendfile(2) has sent."""
    counts: list[int] = []
    real = os.sendfile

    def counting(*arguments: Any) -> int:
        counts.append(real(*arguments))
        return counts[-1]

    monkeypatch.setattr("clusterd.http.connections.transports.transfer.os.sendfile", counting)
    yield counts


@pytest.mark.parametrize("size", SIZES)
def test_the_bytes_are_those_of_the_file(
    serve_disk: Callable[..., Any], disk: Disk, sent: list[int], size: int, tmp_path: Path
) -> None:
    data = disk.write("file", size)
    with serve_disk() as server, server.client() as client:
        for _ in range(2):
            answer = client.get("/file")
            assert answer.body == data
            assert answer.fields["content-length"] == str(size)
        assert client.get("/").body == b"hello"
    assert (sum(sent) > size) == (size > transfer.SMALL_BYTES)
    assert disk.closed == ["file"] * 2


def test_over_a_unix_socket(serve_disk: Callable[..., Any], disk: Disk, tmp_path: Path) -> None:
    data = disk.write("file", 3_000_000)
    with serve_disk() as server:
        server.listen_unix(tmp_path / "socket")
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(tmp_path / "socket"))
        with Client(sock) as client:
            assert client.get("/file").body == data


def test_over_tls_it_is_read(serve_disk: Callable[..., Any], disk: Disk, sent: list[int], tmp_path: Path) -> None:
    data = disk.write("file", 3_000_000)
    certificate = make_certificate(tmp_path)
    with serve_disk(tls=certificate.server()) as server:
        sock = certificate.client().wrap_socket(
            socket.create_connection(server.address[:2], PATIENCE), server_hostname=NAME
        )
        with Client(sock) as client:
            assert client.get("/file").body == data
    assert sent == []


def test_pipelined_requests_come_one_after_the_other(serve_disk: Callable[..., Any], disk: Disk) -> None:
    data = disk.write("file", 3_000_000)
    with serve_disk() as server, server.client() as client:
        client.send(request("/file") + request("/") + request("/file") + request("/", "Connection: close"))
        assert [client.answer().body for _ in range(4)] == [data, b"hello", data, b"hello"]
        assert client.rest() == b""


def test_http_1_0_and_close(serve_disk: Callable[..., Any], disk: Disk) -> None:
    data = disk.write("file", 3_000_000)
    with serve_disk() as server, server.client() as client:
        client.send(b"GET /file HTTP/1.0\r\n\r\n")
        assert client.rest().endswith(data)


def test_head_sends_nothing_of_it(serve_disk: Callable[..., Any], disk: Disk) -> None:
    disk.write("file", 3_000_000)
    with serve_disk() as server, server.client() as client:
        assert client.get("/file", method="HEAD").fields["content-length"] == "3000000"
        assert client.get("/").body == b"hello"


def test_no_more_than_was_promised(serve_disk: Callable[..., Any], disk: Disk) -> None:
    data = disk.write("file", 3_000_000)
    with serve_disk() as server, server.client() as client:
        assert client.get("/file?length=2000000").body == data[:2_000_000]
        assert client.get("/").body == b"hello"


def test_less_than_was_promised_ends_the_connection(serve_disk: Callable[..., Any], disk: Disk) -> None:
    data = disk.write("file", 3_000_000)
    with serve_disk() as server, server.client() as client:
        client.send(request("/file?length=3000001") + request("/"))
        assert client.rest().endswith(data)
        wait_until(lambda: any("1 bytes less than its Content-Length" in line for line in server.ledger.errors))


def test_a_file_that_is_cut_while_it_is_sent_ends_the_connection(serve_disk: Callable[..., Any], disk: Disk) -> None:
    disk.write("file", LARGE)
    with serve_disk() as server, server.client() as client:
        client.send(request("/file") + request("/"))
        head = client.answer_head()
        os.truncate(disk.directory / "file", 1000)
        assert len(client.rest()) < int(head.fields["content-length"])
        wait_until(lambda: any("less than its Content-Length" in line for line in server.ledger.errors))
        wait_until(lambda: disk.closed == ["file"])


def test_wsgi_begins_where_the_file_stands(disk: Disk) -> None:
    data = disk.write("file", 3_000_000)
    for threads in (0, 2):
        with serving(disk.wsgi, threads=threads) as server, server.client() as client:
            answer = client.get("/file?position=1000000")
            assert answer.body == data[1_000_000:]
            assert client.get("/file?position=3000000").body == b""


def test_a_client_that_goes_away_leaves_nothing_open(serve_disk: Callable[..., Any], disk: Disk) -> None:
    disk.write("file", LARGE)
    with serve_disk() as server:
        with server.client() as client:
            client.get("/")
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            disk.opened.clear()
            client = server.client()
            client.send(request("/file"))
            client.answer_head()
            client.reset()
        wait_until(lambda: disk.closed == ["file"] * 3)
        wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)


def test_a_reader_that_stalls_is_cut_off_and_one_that_reads_is_not(serve_disk: Callable[..., Any], disk: Disk) -> None:
    data = disk.write("file", LARGE)
    with serve_disk(timeouts={"write": 0.5}) as server, server.client() as stalled, server.client() as slow:
        stalled.send(request("/file"))
        slow.send(request("/file"))
        received = slow.answer_head().body
        while not server.ledger.timeouts.total():
            received += slow.read(500_000)
            threading.Event().wait(0.02)
        received += slow.read(len(data) - len(received))
        assert received == data
        assert server.ledger.timeouts.total() == 1


def test_others_have_their_turn_beside_a_transfer(serve_disk: Callable[..., Any], disk: Disk) -> None:
    disk.write("file", LARGE)
    over = threading.Event()

    def download(server: Serving) -> None:
        with server.client() as client:
            while not over.is_set():
                assert len(client.get("/file").body) == LARGE

    with serve_disk() as server:
        downloads = [threading.Thread(target=download, args=(server,)) for _ in range(2)]
        for each in downloads:
            each.start()
        with server.client() as client:
            for _ in range(50):
                assert client.get("/").body == b"hello"
        over.set()
        for each in downloads:
            each.join(PATIENCE)


def test_a_connection_moves_only_when_its_file_is_through(serve_disk: Callable[..., Any], disk: Disk) -> None:
    data = disk.write("file", LARGE)
    moved: list[bool] = []

    def move(connection: Any) -> None:
        moved.append(connection.writable)
        connection.detach()
        server.loop.call_soon(connection.release)

    with serve_disk(on_movable=move) as server, server.client() as client:
        client.send(request("/file"))
        client.answer_head()
        server.on_loop(server.engine.retirement.hand_over)
        assert moved == []
        assert client.read(len(data)) == data
        wait_until(lambda: moved == [True])


def test_what_only_looks_like_a_file_is_read(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "file.gz"
    with gzip.open(path, "wb") as packed:
        packed.write(b"x" * 1_000_000)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](gzip.open(path, "rb"))

    for threads in (0, 2):
        with serving(app, threads=threads) as server, server.client() as client:
            assert client.get("/").body == b"x" * 1_000_000

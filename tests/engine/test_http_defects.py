"""What was wrong once: each of these failed before it was mended."""

import itertools
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from clusterd.http.engine import Connection
from tests.support.serving import Client, request, serving, wait_until

Start = Callable[..., Any]


def hello(environ: dict[str, Any], start_response: Start) -> list[bytes]:
    body = environ["PATH_INFO"].encode() + environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def big(environ: dict[str, Any], start_response: Start) -> list[bytes]:
    body = b"x" * 30_000_000
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


@pytest.mark.parametrize("threads", [0, 4])
def test_pipelined_requests_of_a_client_that_half_closes_are_all_answered(threads: int) -> None:
    with serving(hello, threads) as server, server.client() as client:
        client.send(request("/1") + request("/2") + request("/3"))
        client.socket.shutdown(socket.SHUT_WR)
        assert [client.answer().body for _ in range(3)] == [b"/1", b"/2", b"/3"]
        assert client.rest() == b""


def test_a_half_closed_client_that_reads_late_is_closed_after_its_response() -> None:
    with serving(big) as server, server.client() as client:
        client.send(request())
        client.socket.shutdown(socket.SHUT_WR)
        assert len(client.answer().body) == 30_000_000
        wait_until(lambda: not server.engine.connections)


def test_a_request_that_waits_for_a_thread_is_answered_although_its_client_half_closed() -> None:
    go = threading.Event()

    def blocking(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        assert go.wait(20)
        return hello(environ, start_response)

    with serving(blocking, 1) as server, server.client() as first, server.client() as second:
        first.send(request("/1"))
        wait_until(lambda: server.engine.runners.busy)
        second.send(request("/2"))
        wait_until(lambda: server.engine.runners.waiting)
        second.socket.shutdown(socket.SHUT_WR)
        time.sleep(0.05)
        go.set()
        assert second.answer().body == b"/2"
        assert first.answer().body == b"/1"
        assert sorted(server.ledger.done) == [200, 200]


def test_a_last_response_is_not_cut_while_its_client_reads_slowly() -> None:
    with serving(big, timeouts={"write": 1.0}) as server, server.client() as client:
        client.send(request("/", "Connection: close"))
        received = 0
        while data := client.socket.recv(1_000_000):
            received += len(data)
            time.sleep(0.05)
        assert received > 30_000_000


def test_a_connection_does_not_linger_for_ever_after_a_slow_last_response(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusterd.http.connections.deadline.LINGER", 0.2)
    with serving(big) as server, server.client() as client:
        client.send(request("/", "Connection: close"))
        assert len(client.answer().body) == 30_000_000
        wait_until(lambda: not server.engine.connections)


def test_a_body_that_can_not_be_stored_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError("no space left")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with serving(hello) as server, server.client() as client:
        assert client.get(body=b"x" * 100_000, method="POST").status == 507


@pytest.mark.parametrize("threads", [0, 4])
def test_an_application_that_exits_ends_its_request_and_nothing_else(threads: int) -> None:
    def exiting(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        if environ["PATH_INFO"] == "/exit":
            sys.exit(3)
        return hello(environ, start_response)

    with serving(exiting, threads) as server, server.client() as client:
        assert client.get("/exit").status == 500
        with server.client() as other:
            assert other.get("/on").body == b"/on"
        wait_until(lambda: server.ledger.errors)
        assert "SystemExit" in server.ledger.errors[0]


def test_a_fast_reader_of_an_endless_stream_does_not_keep_the_loop_to_itself() -> None:
    def endless(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        if environ["PATH_INFO"] != "/endless":
            yield from hello(environ, start_response)
            return
        start_response("200 OK", [])
        while True:
            yield b""  # takes no room, so nothing but the server's fairness ends its turn

    with serving(endless) as server, server.client() as greedy, server.client() as other:
        greedy.send(request("/endless"))
        other.socket.settimeout(5)
        assert other.get("/other").body == b"/other"


def test_empty_lines_before_a_request_cost_no_more_than_they_weigh() -> None:
    with serving(hello) as server, server.client() as client:
        started = time.process_time()
        client.send(b"\r\n" * 500_000)
        assert client.get("/after").body == b"/after"
        assert time.process_time() - started < 1.0


@pytest.mark.parametrize("threads", [0, 4])
def test_what_runs_after_the_last_yield_runs(threads: int) -> None:
    after = threading.Event()

    def application(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "5")])
        yield b"hello"
        after.set()

    with serving(application, threads) as server, server.client() as client:
        assert client.get().body == b"hello"
        assert after.wait(5)


def test_a_connection_that_arrives_during_a_hand_over_is_not_read_once_it_was_offered() -> None:
    offered: list[Connection] = []

    def offer(connection: Connection) -> None:
        offered.append(connection)
        connection.detach()

    with serving(hello, on_movable=offer) as server:
        server.on_loop(server.engine.retirement.hand_over)
        with server.client() as client:
            wait_until(lambda: offered)
            client.send(request("/mine"))
            time.sleep(0.1)
            assert server.on_loop(lambda: offered[0].residual) == b""
            server.on_loop(server.engine.retirement.take_back)
            server.on_loop(offered[0].resume)
            assert client.answer().body == b"/mine"


@pytest.mark.parametrize("threads", [0, 4])
def test_the_file_of_a_body_is_closed_when_its_client_goes(threads: int) -> None:
    go = threading.Event()
    bodies: list[Any] = []

    def application(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        bodies.append(environ["wsgi.input"])
        start_response("200 OK", [])
        while True:
            yield b"x" * 100_000
            if threads:
                go.wait(20)

    with serving(application, threads) as server:
        with server.client() as client:
            client.send(request(method="POST", body=b"x" * 100_000))
            client.socket.recv(1)
        wait_until(lambda: not server.engine.connections)
        go.set()
        wait_until(lambda: is_closed(bodies[0]))


def is_closed(body: Any) -> bool:
    try:
        body.tell()
    except (ValueError, OSError):  # It is closed, or is just being closed.
        return True
    return False


def test_a_client_that_is_gone_before_it_is_adopted_leaves_nothing_behind() -> None:
    with serving(hello) as server:
        listener = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        server.on_loop(lambda: server.engine.adopt(accepted))
        wait_until(lambda: not server.engine.load)
        wait_until(lambda: accepted.fileno() == -1)
        listener.close()


def test_head_of_nothing_tells_no_length() -> None:
    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        start_response("200 OK", [])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [b"hello"]

    with serving(application) as server, server.client() as client:
        assert client.get().fields["content-length"] == "5"
        assert "content-length" not in client.get(method="HEAD").fields
        assert client.get().body == b"hello"


def test_a_refused_head_request_gets_no_body() -> None:
    with serving(hello) as server, server.client() as client:
        client.send(request("/", "Content-Length: +1", method="HEAD"))
        assert client.rest().endswith(b"\r\n\r\n")


def test_a_loop_that_was_busy_does_not_count_its_own_delay_against_clients() -> None:
    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        if environ["PATH_INFO"] == "/slow":
            time.sleep(1.5)
        return hello(environ, start_response)

    with serving(application, timeouts={"body": 1.0}) as server, server.client() as slow, server.client() as client:
        client.send(request("/", "Content-Length: 4", method="POST") + b"ab")
        wait_until(lambda: server.engine.in_flight)
        slow.send(request("/slow"))
        time.sleep(0.2)
        client.send(b"cd")
        assert client.answer().body == b"/abcd"


def test_the_name_of_a_unix_socket_s_server_may_be_an_ipv6_address(tmp_path: Any) -> None:
    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["SERVER_NAME"].encode()]

    with serving(application) as server:
        server.listen_unix(tmp_path / "s")
        with Client(socket.socket(socket.AF_UNIX)) as client:
            client.socket.connect(str(tmp_path / "s"))
            client.send(b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n")
            assert client.answer().body == b"[::1]"


class ClosesBadly:
    """An endless response whose close() fails."""

    def __iter__(self) -> Iterator[bytes]:
        return itertools.repeat(b"x" * 65536)

    def close(self) -> None:
        raise RuntimeError("close failed on purpose")


@pytest.mark.parametrize("threads", [0, 4])
def test_a_response_that_fails_to_close_when_its_client_goes_leaves_no_connection_behind(threads: int) -> None:
    def streaming(environ: dict[str, Any], start_response: Start) -> ClosesBadly:
        start_response("200 OK", [])
        return ClosesBadly()

    with serving(streaming, threads) as server:
        with server.client() as client:
            client.send(request())
            client.socket.recv(1)
        wait_until(lambda: not server.engine.connections)
        wait_until(lambda: server.ledger.errors)
        assert "close failed on purpose" in server.ledger.errors[0]
        assert len(server.ledger.errors) == 1


@pytest.mark.parametrize("threads", [0, 4])
def test_an_application_that_raises_generator_exit_has_failed_like_any_other(threads: int) -> None:
    def exiting(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield from ()
        raise GeneratorExit

    with serving(exiting, threads) as server, server.client() as client:
        assert client.get().status == 500
        assert client.get().status == 500


@pytest.mark.parametrize("framing", ["Content-Length: 100000000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("threads", [0, 2])
def test_who_uploads_too_much_and_takes_its_time_reads_the_413_at_the_end(threads: int, framing: str) -> None:
    """It was dropped after two seconds, and a client that had not finished sending saw a broken pipe."""
    piece = b"10000\r\n" + bytes(1 << 16) + b"\r\n" if "chunked" in framing else bytes(1 << 16)
    with serving(hello, threads, limits={"body": 1000}) as server, server.client() as client:
        client.send(request("/", framing, method="POST"))
        for _ in range(12):
            client.send(piece * 2)
            threading.Event().wait(0.25)  # the client's pace: three seconds in all
        assert client.answer().status == 413
        client.socket.shutdown(socket.SHUT_WR)
        assert client.rest() == b""


def test_who_sends_a_byte_now_and_then_after_its_413_is_not_waited_for() -> None:
    with serving(hello, limits={"body": 1000}) as server, server.client() as client:
        client.send(request("/", "Content-Length: 100000000", method="POST"))
        assert client.answer().status == 413
        with pytest.raises(ConnectionError):
            for _ in range(200):
                client.send(b"x")
                threading.Event().wait(0.05)
        wait_until(lambda: not server.engine.connections)


def writes(count: int) -> Callable[..., list[bytes]]:
    """An application that writes so many pieces of 64 KiB."""

    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        write = start_response("200 OK", [])
        for _ in range(count):
            write(bytes(1 << 16))
        return []

    return application


@pytest.mark.parametrize("before", [0, 1])
def test_what_is_written_in_many_pieces_arrives(before: int) -> None:
    with serving(writes(800)) as server, server.client() as client:
        for _ in range(before + 1):
            client.send(request("/"))
            assert len(client.answer().body) == 800 << 16
        assert server.ledger.errors == []


@pytest.mark.parametrize("before", [b"", request("/first")])
def test_what_is_written_to_a_client_that_does_not_read_is_bounded(before: bytes) -> None:
    with serving(writes(4000)) as server, server.client() as client:
        client.send(before + request("/"))
        wait_until(lambda: server.ledger.errors)
        assert "write() was given 64 MiB that the client has not read" in server.ledger.errors[0]
        assert server.on_loop(lambda: sum(each.unsent for each in server.engine.connections)) < 66 << 20

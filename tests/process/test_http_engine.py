"""The engine over real sockets, with the application in threads and on the loop."""

import os
import re
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.validate import validator

import pytest

from clusterd.http.settings import AccessLog, HttpSettings, Limits, Timeouts
from tests.process.engine_host import Host, exchange, read_all, serving

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]

BIG = 24 * 1024 * 1024


def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A bit of everything, by path."""
    path = environ["PATH_INFO"]
    plain = [("Content-Type", "text/plain")]
    if path == "/echo":
        body = environ["wsgi.input"].read()
        start_response("200 OK", [*plain, ("Content-Length", str(len(body)))])
        return [body]
    if path == "/length":
        body = environ["wsgi.input"].read(1 << 40)
        start_response("200 OK", plain)
        return [f"{len(body)} {environ.get('CONTENT_LENGTH')}".encode()]
    if path == "/stream":
        start_response("200 OK", plain)
        return (piece for piece in (b"one ", b"", b"two ", b"three"))
    if path == "/big":
        start_response("200 OK", plain)
        return (bytes(65536) for _ in range(BIG // 65536))
    if path == "/write":
        write = start_response("200 OK", plain)
        write(b"written ")
        return [b"and ", b"returned"]
    if path == "/fail":
        raise LookupError("on purpose")
    if path == "/fail-late":
        start_response("200 OK", plain)
        return failing()
    if path == "/inject":
        start_response("200 OK", [*plain, ("X-A", "b\r\nX-Evil: 1")])
        return [b""]
    if path == "/short":
        start_response("200 OK", [*plain, ("Content-Length", "10")])
        return [b"short"]
    if path == "/long":
        start_response("200 OK", [*plain, ("Content-Length", "4")])
        return [b"long", b"er than said"]
    if path == "/file":
        file = tempfile.TemporaryFile()  # noqa: SIM115 - close() is the server's
        file.write(b"f" * 200_000)
        file.seek(0)
        start_response("200 OK", plain)
        return environ["wsgi.file_wrapper"](file)  # type: ignore[no-any-return]
    if path == "/no-content":
        start_response("204 No Content", [])
        return []
    start_response("200 OK", plain)
    return [f"hello {environ['QUERY_STRING']}".encode()]


def failing() -> Iterator[bytes]:
    yield b"first"
    raise LookupError("late, on purpose")


@pytest.fixture(params=[0, 4], ids=["loop", "threads"])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    with serving(application, HttpSettings(threads=request.param, limits=Limits(body=64 << 20))) as host:
        yield host


def get(path: str, *fields: str, version: str = "1.1") -> bytes:
    lines = [f"GET {path} HTTP/{version}", "Host: test", *fields]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


LAST = "Connection: close"


def answers(responses: bytes) -> list[bytes]:
    return re.findall(rb"hello (\w+?)(?=HTTP|$)", responses)


def body_of(response: bytes) -> bytes:
    return response.partition(b"\r\n\r\n")[2]


def test_keep_alive_and_pipelining_in_order(host: Host) -> None:
    requests = b"".join(get(f"/?{number}") for number in range(50)) + get("/?last", LAST)
    with host.connect() as sock:
        response = exchange(sock, requests)
    assert answers(response) == [str(n).encode() for n in range(50)] + [b"last"]
    assert response.count(b"Connection: close") == 1
    assert host.notes.wait_for(lambda: host.notes.statuses == [200] * 51)


def test_a_request_byte_by_byte_and_an_empty_line_before_it(host: Host) -> None:
    with host.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"\r\n\r\n" + get("/?slow", LAST):
            sock.sendall(bytes([byte]))
        assert body_of(read_all(sock)) == b"hello slow"


def test_half_closed_clients_are_answered(host: Host) -> None:
    with host.connect() as sock:
        sock.sendall(get("/?1") + get("/?2"))
        sock.shutdown(socket.SHUT_WR)
        assert answers(read_all(sock)) == [b"1", b"2"]


def test_pipelined_requests_of_a_half_closed_client_are_all_answered() -> None:
    release = threading.Event()

    def waiting(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        assert release.wait(20)
        start_response("200 OK", [])
        return [b"hello " + environ["QUERY_STRING"].encode()]

    with serving(waiting, HttpSettings(threads=1)) as host, host.connect() as sock:
        sock.sendall(get("/?1") + get("/?2") + get("/?3"))
        sock.shutdown(socket.SHUT_WR)
        wait_until(host, lambda: any(each._half_closed for each in host.engine.connections))
        release.set()
        assert answers(read_all(sock)) == [b"1", b"2", b"3"]


def test_a_client_that_reset_before_it_was_accepted(host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        with pytest.raises(OSError, match="not connected"):
            accepted.getpeername()
    host.call(host.engine.adopt, accepted)
    wait_until(host, lambda: host.engine.load == 0)
    with host.connect() as sock:
        assert body_of(exchange(sock, get("/?next", LAST))) == b"hello next"


def test_http_1_0(host: Host) -> None:
    with host.connect() as sock:
        assert body_of(exchange(sock, get("/stream", version="1.0"))) == b"one two three"
    with host.connect() as sock:
        response = exchange(sock, get("/?1", "Connection: keep-alive", version="1.0") + get("/?2", version="1.0"))
    assert b"Connection: keep-alive" in response
    assert answers(response) == [b"1", b"2"]


def test_chunked_both_ways(host: Host) -> None:
    with host.connect() as sock:
        response = exchange(
            sock,
            b"POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n" + get("/stream", LAST),
        )
    first, second = response.split(b"HTTP/1.1 ")[1:]
    assert body_of(first) == b"11 11"
    assert body_of(second) == b"4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\n\r\n"


def test_an_upload_comes_back(host: Host) -> None:
    sent = os.urandom(5_000_000)
    with host.connect() as sock:
        head = f"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {len(sent)}\r\n{LAST}\r\n\r\n"
        writer = threading.Thread(target=sock.sendall, args=(head.encode() + sent,))
        writer.start()
        response = read_all(sock)
        writer.join()
    assert body_of(response) == sent


def test_a_download_whose_reader_pauses(host: Host) -> None:
    with host.connect() as sock, host.connect() as other:
        sock.sendall(get("/big", LAST))
        assert sock.recv(1)
        assert body_of(exchange(other, get("/?beside", LAST))) == b"hello beside"
        received = len(read_all(sock))
    assert received > BIG


def test_100_continue(host: Host) -> None:
    with host.connect() as sock:
        head = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"
        sock.sendall(head + b"Expect: 100-continue\r\nConnection: close\r\n\r\n")
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert body_of(exchange(sock, b"hi")) == b"hi"


def test_no_body_where_none_belongs(host: Host) -> None:
    with host.connect() as sock:
        requests = get("/no-content") + get("/?x").replace(b"GET", b"HEAD") + get("/?y", LAST)
        responses = exchange(sock, requests).split(b"HTTP/1.1 ")[1:]
    assert [response[:3] for response in responses] == [b"204", b"200", b"200"]
    assert [body_of(response) for response in responses] == [b"", b"", b"hello y"]
    assert b"Content-Length: 7" in responses[1]
    assert b"Content-Length" not in responses[0]


@pytest.mark.parametrize("path", ["/fail", "/inject"])
def test_an_error_is_a_500_and_logged(host: Host, path: str) -> None:
    with host.connect() as sock:
        responses = exchange(sock, get(path) + get("/?after", LAST)).split(b"HTTP/1.1 ")[1:]
    assert [response[:3] for response in responses] == [b"500", b"200"]
    assert b"Evil" not in responses[0]
    assert host.notes.wait_for(lambda: bool(host.notes.errors))
    assert "Traceback" in host.notes.errors[0]


def test_what_can_not_be_completed_is_cut(host: Host) -> None:
    with host.connect() as sock:
        response = exchange(sock, get("/fail-late") + get("/?never"))
    assert b"first" in response
    assert not response.endswith(b"0\r\n\r\n")
    assert b"never" not in response
    with host.connect() as sock:
        assert body_of(exchange(sock, get("/short") + get("/?never"))) == b"short"


def test_what_is_too_much_never_reaches_the_next_response(host: Host) -> None:
    with host.connect() as sock:
        responses = exchange(sock, get("/long") + get("/?after", LAST)).split(b"HTTP/1.1 ")[1:]
    assert [body_of(response) for response in responses] == [b"long", b"hello after"]


def test_write_and_files(host: Host) -> None:
    with host.connect() as sock:
        assert body_of(exchange(sock, get("/write", version="1.0"))) == b"written and returned"
    with host.connect() as sock:
        assert body_of(exchange(sock, get("/file", version="1.0"))) == b"f" * 200_000


def test_refusals_close_politely(host: Host) -> None:
    with host.connect() as sock:
        response = exchange(sock, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n" + bytes(100_000))
    assert response.startswith(b"HTTP/1.1 413 ")
    assert b"Connection: close" in response
    assert host.notes.wait_for(lambda: host.notes.statuses == [413])


@pytest.mark.parametrize("threads", [0, 4])
def test_wsgiref_finds_nothing(threads: int) -> None:
    def plain(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(5)
        assert list(environ["wsgi.input"]) == [b"\n", b"next\n"]
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        return [body]

    with serving(validator(plain), HttpSettings(threads=threads)) as host, host.connect() as sock:
        request = b"POST /a?b HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 11\r\n\r\nhello\nnext\n"
        response = exchange(sock, request)
        assert host.notes.errors == []
        assert body_of(response) == b"hello"


def test_a_full_queue_is_answered_503_and_a_client_gone_from_it_is_not_served() -> None:
    release = threading.Event()
    served: list[str] = []

    def waiting(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        served.append(environ["PATH_INFO"])
        assert release.wait(20)
        start_response("200 OK", [])
        return [b"done"]

    with serving(waiting, HttpSettings(threads=1, limits=Limits(queue=1))) as host:
        first, second, third = host.connect(), host.connect(), host.connect()
        with first, second, third:
            first.sendall(get("/first", LAST))
            assert host.call(lambda: None) is None
            wait_until(host, lambda: host.engine.threads_busy == 1)
            second.sendall(get("/second", LAST))
            wait_until(host, lambda: host.engine.queue_length == 1)
            response = exchange(third, get("/third", LAST))
            assert response.startswith(b"HTTP/1.1 503 ")
            assert b"Retry-After" in response
            assert not host.engine.has_free_thread()
            # A reset: after a mere end of file it may still want its answer.
            second.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            second.close()
            wait_until(host, lambda: host.engine.queue_length == 0)
            release.set()
            assert body_of(read_all(first)) == b"done"
            assert served == ["/first"]
            assert host.notes.wait_for(lambda: host.notes.connections == 0)
            assert sorted(host.notes.statuses) == [200, 499, 503]


def wait_until(host: Host, condition: Callable[[], bool]) -> None:
    """Look again with every turn of the loop."""
    for _ in range(100_000):
        if host.call(condition):
            return
    raise AssertionError("it did not come to pass")


@pytest.mark.parametrize(
    ("sent", "answered"),
    [(b"", b""), (b"GET / HT", b"408"), (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf", b"408")],
    ids=["nothing", "head", "body"],
)
def test_slow_requests_time_out(sent: bytes, answered: bytes) -> None:
    timeouts = Timeouts(keepalive=0.1, header=0.1, body=0.1)
    with serving(application, HttpSettings(threads=1, timeouts=timeouts)) as host, host.connect() as sock:
        assert exchange(sock, sent)[9:12] == answered
        assert host.notes.timed_out == (1 if answered else 0)


@pytest.mark.parametrize("threads", [0, 2])
def test_a_reader_that_stalls_is_cut_off_and_the_application_closed(threads: int) -> None:
    closed = threading.Event()

    def endless(_: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            while True:
                yield bytes(65536)
        finally:
            closed.set()

    with serving(endless, HttpSettings(threads=threads, timeouts=Timeouts(write=0.1))) as host, host.connect() as sock:
        sock.sendall(get("/"))
        assert closed.wait(10)
        assert host.notes.wait_for(lambda: host.notes.connections == 0)
        assert host.notes.timed_out == 1


def test_an_application_is_never_far_ahead_of_its_client() -> None:
    given = 0
    stalled = threading.Event()

    def pieces() -> Iterator[bytes]:
        nonlocal given
        while not stalled.is_set():
            given += 512
            yield bytes(512)

    def endless(_: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        return pieces()

    with serving(endless, HttpSettings(threads=1)) as host, host.connect() as sock:
        sock.sendall(get("/"))
        wait_until(host, lambda: any(not each.writable for each in host.engine.connections))
        for _ in range(50):
            unsent = host.call(lambda: sum(each._transport.get_write_buffer_size() for each in host.engine.connections))
        stalled.set()
        assert unsent < 200_000


def test_closing_says_so_and_idle_connections_end_when_told() -> None:
    with serving(application, HttpSettings(threads=1)) as host, host.connect() as idle, host.connect() as busy:
        for sock in (idle, busy):
            sock.sendall(get("/"))
            assert b"Connection: close" not in sock.recv(1000)
        host.call(host.engine.close)
        busy.sendall(get("/"))
        assert b"Connection: close" in read_all(busy)
        host.call(host.engine.close_idle)
        assert read_all(idle) == b""


def test_the_access_log() -> None:
    with serving(application, HttpSettings(threads=1, access_log=AccessLog.ALL)) as host, host.connect() as sock:
        exchange(sock, get("/?logged", LAST))
        assert host.notes.wait_for(lambda: bool(host.notes.infos))
        assert host.notes.infos[0]["target"] == "/?logged"
        assert host.notes.infos[0]["status"] == 200

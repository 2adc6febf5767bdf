"""Clients that are slow or greedy on purpose: others are answered beside them, and each of them meets its limit."""

import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from bench.scenarios.slow_clients import APPLICATION, MOST_RATIO, latency_now, normal_client, slow_clients, think

from clusterd.http.connections.intake import PIPELINE_LIMIT
from clusterd.http.settings import Interface
from tests.support.certificates import NAME, make_certificate
from tests.support.processes import waited_seconds
from tests.support.service import Service
from tests.support.serving import PATIENCE, Client, Serving, request, serving, wait_until

MakeService = Callable[..., Service]
Start = Callable[..., Any]
Receive = Callable[..., Any]

READ_BYTES = 256 * 1024
"""What uvloop reads at a time."""
SLOW_CLIENTS = 1000
ASKED_BESIDE_THEM = 200
MOST_SLOW_CLIENTS = 5000
"""Beside so many, a normal client's median latency stays within MOST_RATIO times."""
ASKED_BY_TURNS = 700


def wsgi(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
    """Endless where it is asked for."""
    start_response("200 OK", [])
    yield environ["wsgi.input"].read() or b"hello"
    while environ["PATH_INFO"] == "/endless":
        yield bytes(65536)


async def asgi(scope: dict[str, Any], receive: Receive, send: Receive) -> None:
    """Endless where it is asked for."""
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = scope["path"] == "/endless"
    await send({"type": "http.response.body", "body": message.get("body") or b"hello", "more_body": more})
    while more:
        await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})


KINDS = {
    "wsgi-loop": (wsgi, 0, Interface.WSGI),
    "wsgi-threads": (wsgi, 2, Interface.WSGI),
    "asgi": (asgi, 0, Interface.ASGI),
}


@pytest.fixture(params=list(KINDS))
def serve(request: pytest.FixtureRequest) -> Iterator[Callable[..., Serving]]:
    """Serve the application of each kind, with timeouts."""
    application, threads, interface = KINDS[request.param]
    with ExitStack() as stack:
        yield lambda **timeouts: stack.enter_context(
            serving(application, threads, timeouts=timeouts, interface=interface)
        )


def skip_without_descriptors(clients: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < clients + 200:
        pytest.skip("the system does not allow so many descriptors")


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    skip_without_descriptors(SLOW_CLIENTS)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.parametrize("threads", [0, 4])
def test_normal_clients_are_answered_beside_a_thousand_slow_ones_which_time_out(
    make_service: MakeService, threads: int
) -> None:
    service = make_service(
        workers=1, threads=threads, limits={"connections": 2 * SLOW_CLIENTS}, timeouts={"header": "3s"}
    ).start()
    with ExitStack() as stack:
        slow = []
        for _ in range(SLOW_CLIENTS):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=30))
            client.sendall(b"GET / HTTP/1.1\r\nHost: slow\r\nX-Slow: ")
            slow.append(client)
        for number in range(ASKED_BESIDE_THEM):
            slow[number].send(b"y")
            assert service.get().status_code == 200
        for client in slow:
            assert client.recv(4096).startswith(b"HTTP/1.1 408 ")
    wait_until(lambda: service.workers()[0]["connections"] <= 1)
    assert service.get().status_code == 200


def latency_with_a_processor(client: socket.socket, worker: int) -> float:
    """Of a request at any moment, without the time in which something else had the worker's processor. A worker that
    has more to do waits longer for one.
    """
    think()
    before = waited_seconds(worker)
    return latency_now(client) - (waited_seconds(worker) - before)


@pytest.mark.parametrize("threads", [0, 4])
def test_a_normal_client_hardly_waits_for_five_thousand_slow_ones(make_service: MakeService, threads: int) -> None:
    skip_without_descriptors(MOST_SLOW_CLIENTS)  # workers and the process of the slow ones raise their own limits
    # None of them times out before the end: to answer all of them at once would be something else.
    settings = {"workers": 1, "threads": threads, "timeouts": {"header": "300s"}}
    without, beset = make_service(**settings), make_service(**settings)
    for service in (without, beset):
        service.deploy("1", APPLICATION)
        service.start()
    with (
        slow_clients(beset.port, MOST_SLOW_CLIENTS),
        normal_client(without.port) as alone,
        normal_client(beset.port) as beside,
    ):
        wait_until(lambda: beset.workers()[0]["connections"] > MOST_SLOW_CLIENTS)
        asked = (alone, without.workers()[0]["pid"]), (beside, beset.workers()[0]["pid"])
        latencies = [[latency_with_a_processor(*each) for each in asked] for _ in range(ASKED_BY_TURNS)]
    medians = [median(each) for each in zip(*latencies, strict=True)]
    assert medians[1] <= MOST_RATIO * medians[0], medians


def test_a_head_that_trickles_ends_in_its_time(serve: Callable[..., Serving]) -> None:
    server = serve(header=0.3)
    with server.client() as client:
        gone = threading.Event()

        def trickle() -> None:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
            while not gone.wait(0.01):
                try:
                    client.send(b"y")
                except OSError:
                    return

        sender = threading.Thread(target=trickle)
        sender.start()
        try:
            assert client.answer().status == 408
        finally:
            gone.set()
            sender.join()
    assert server.ledger.timeouts.total() == 1


def test_a_body_that_stops_ends_in_its_time(serve: Callable[..., Serving]) -> None:
    server = serve(body=0.1)
    with server.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe")
        answer = client.rest()
        # ASGI has answered what there was of it by then.
        assert answer.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 200 "))
    wait_until(lambda: not server.engine.connections)


def test_an_idle_connection_ends_in_its_time_without_a_word(serve: Callable[..., Serving]) -> None:
    server = serve(keepalive=0.1)
    with server.client() as new, server.client() as kept:
        assert kept.get().body == b"hello"
        assert (new.rest(), kept.rest()) == (b"", b"")
    assert server.ledger.timeouts == {"keepalive": 2}


def test_a_reader_that_stalls_is_cut_off(serve: Callable[..., Serving]) -> None:
    server = serve(write=0.1)
    with server.client() as client:
        client.send(request("/endless"))
        assert client.socket.recv(1)
        wait_until(lambda: not server.engine.connections)
    assert server.ledger.timeouts.total() == 1
    wait_until(lambda: not server.engine.adapter.running)
    with server.client() as other:
        assert other.get().body == b"hello"


def test_a_reader_that_pipelines_and_never_reads_is_cut_off(serve: Callable[..., Serving]) -> None:
    server = serve(write=0.1)
    with server.client() as client:
        with pytest.raises(OSError, match=r"reset|Broken"):
            for _ in range(10_000):
                client.send(request("/", "X: " + "x" * 500) * 200)
        wait_until(lambda: not server.engine.connections)
    with server.client() as other:
        assert other.get().body == b"hello"


@pytest.mark.parametrize("kind", list(KINDS))
def test_what_a_client_pipelines_is_not_held_in_memory(kind: str) -> None:
    application, threads, interface = KINDS[kind]
    with serving(application, threads, interface=interface) as server, server.client() as client:
        held = [0]

        def look() -> None:
            held[0] = max(held[0], *(len(each.residual) for each in server.engine.connections))

        sender = threading.Thread(target=lambda: client.send(request("/", "X: " + "x" * 500) * 20_000))
        sender.start()
        for _ in range(10_000):
            assert client.answer().body == b"hello"
            server.loop.call_soon_threadsafe(look)
        sender.join()
        assert held[0] <= PIPELINE_LIMIT + READ_BYTES


@pytest.mark.parametrize("kind", list(KINDS))
def test_what_comes_after_many_requests_is_read_however_long_it_is(kind: str) -> None:
    application, threads, interface = KINDS[kind]
    limits = {"headers": 1 << 20}
    with serving(application, threads, interface=interface, limits=limits) as server, server.client() as client:
        long_head, long_body = request("/", "X: " + "x" * 900_000), request("/", method="POST", body=b"x" * 900_000)
        chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nchunk\r\n0\r\n\r\n"
        sent = (request() * 1000 + long_head) * 2 + (request() * 1000 + long_body) * 2 + chunked
        sender = threading.Thread(target=client.send, args=(sent,))
        sender.start()
        bodies = [client.answer().body[:5] for _ in range(4005)]
        sender.join()
        assert bodies.count(b"hello") == 4002
        assert bodies[-1] == b"chunk"


@pytest.mark.parametrize("secure", [False, True])
def test_a_reader_that_is_slow_and_moves_is_waited_for(secure: bool, tmp_path: Path) -> None:
    """Slower than the kernel's buffer has room to tell of within timeouts.write."""
    huge = b"x" * 20_000_000

    def app(_: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [])
        return [huge]

    certificate = make_certificate(tmp_path) if secure else None
    with serving(app, timeouts={"write": 0.6}, tls=certificate.server() if certificate else None) as server:
        sock: socket.socket = socket.create_connection(server.address[:2], PATIENCE)
        if certificate:
            sock = certificate.client().wrap_socket(sock, server_hostname=NAME)
        with Client(sock) as client:
            client.send(request())
            client.answer_head()
            received = 0
            for _ in range(25):
                received += len(client.read(50_000))
                time.sleep(0.1)
            assert server.ledger.timeouts.total() == 0
            assert received + len(client.read(len(huge) - received)) == len(huge)

"""limits.connections: a full worker leaves connections to others, and when all are full, clients come back later."""

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from clusterd.http.connections.transports import rejected_connection as surplus
from clusterd.worker.control_channel import TICK_SECONDS
from tests.support.certificates import NAME, make_certificate
from tests.support.ports import free_port
from tests.support.service import Service
from tests.support.serving import Client, request, serving, wait_until

MakeService = Callable[..., Service]

SENT_AWAY = "clients are sent away with 503"
LIMIT = 3
WORKERS = 2


@pytest.fixture(params=["least_connections", "round_robin", "shared"])
def service(request: pytest.FixtureRequest, make_service: MakeService) -> Service:
    limits = {"connections": LIMIT}
    service = make_service(workers=WORKERS, threads=2, scheduling=request.param, limits=limits).start()
    # Ready is before that: with one of them still to begin, the other would be all there is.
    wait_until(lambda: all(worker["accepting"] for worker in service.workers()))
    return service


def client_of(service: Service, clients: ExitStack) -> Client:
    return clients.enter_context(Client(socket.create_connection(("127.0.0.1", service.port), timeout=30)))


def test_clients_are_sent_away_when_every_worker_is_full_and_served_again_afterwards(
    service: Service, clients: ExitStack
) -> None:
    kept = [client_of(service, clients) for _ in range(WORKERS * LIMIT)]
    for client in kept:
        assert client.get().status == 200
    for method in ("GET", "HEAD", "GET"):
        refused = client_of(service, clients)
        answer = refused.get(method=method)
        assert (answer.status, answer.fields["retry-after"], answer.fields["connection"]) == (503, "1", "close")
        assert refused.rest() == b""
        assert [worker["connections"] for worker in service.workers()] == [LIMIT] * WORKERS
    for client in kept:
        assert client.get().status == 200  # those that were here are not touched
    kept.pop().reset()
    wait_until(lambda: sum(worker["connections"] for worker in service.workers()) == WORKERS * LIMIT - 1)
    assert client_of(service, clients).get().status == 200
    counted = [line for line in service.metrics().text.splitlines() if 'code="5xx"' in line and "_total" in line]
    assert sum(float(line.split()[-1]) for line in counted) == 3, counted


@pytest.mark.parametrize("scheduling", ["least_connections", "round_robin", "shared"])
def test_clients_over_tls_are_refused_before_the_handshake(
    make_service: MakeService, clients: ExitStack, tmp_path: Path, scheduling: str
) -> None:
    certificate, port = make_certificate(tmp_path / "certificates"), free_port()
    files = {"certificate": str(certificate.certificate), "key": str(certificate.key)}
    service = make_service(
        workers=WORKERS,
        scheduling=scheduling,
        limits={"connections": LIMIT},
        tls={"listen": [f"127.0.0.1:{port}"], **files},
    ).start()
    wait_until(lambda: all(worker["accepting"] for worker in service.workers()))

    def secure() -> Client:
        sock = socket.create_connection(("127.0.0.1", port), timeout=30)
        return clients.enter_context(Client(certificate.client().wrap_socket(sock, server_hostname=NAME)))

    kept = [secure() for _ in range(WORKERS * LIMIT)]
    for client in kept:
        assert client.get().status == 200
    for _ in range(5):
        with pytest.raises(OSError):
            secure()
        assert [worker["connections"] for worker in service.workers()] == [LIMIT] * WORKERS
    for client in kept:
        assert client.get().status == 200
    kept.pop().reset()
    wait_until(lambda: sum(worker["connections"] for worker in service.workers()) == WORKERS * LIMIT - 1)
    assert secure().get().status == 200


def test_the_log_says_why_clients_are_sent_away_and_does_not_repeat_itself(
    make_service: MakeService, clients: ExitStack
) -> None:
    service = make_service(workers=1, limits={"connections": LIMIT}).start()
    for _ in range(LIMIT):
        assert client_of(service, clients).get().status == 200
    assert client_of(service, clients).get().status == 503
    line = service.wait_for_line(SENT_AWAY)
    assert " warning: " in line
    assert line.endswith(f" count=1 limit={LIMIT}"), line
    assert "limits.connections" in line
    for _ in range(3):
        assert client_of(service, clients).get().status == 503
    time.sleep(4 * TICK_SECONDS)
    assert sum(SENT_AWAY in each for each in service.lines) == 1


def test_nothing_is_left_to_a_full_worker_because_it_has_free_threads(
    make_service: MakeService, clients: ExitStack
) -> None:
    service = make_service(workers=2, threads=1, limits={"connections": 2})
    service.deploy("1", BLOCKS.replace("DIRECTORY", str(service.directory)))
    service.start()
    wait_until(lambda: all(worker["accepting"] for worker in service.workers()))
    full = [client_of(service, clients) for _ in range(4)]
    pids = [client.get("/pid").body for client in full]
    assert len(set(pids)) == 2
    # One worker keeps its two idle clients and is full; the other has one, whose request holds its only thread.
    busy = pids.index(next(pid for pid in pids if pid != pids[0]))
    spare = next(number for number, pid in enumerate(pids) if pid == pids[busy] and number != busy)
    full[spare].reset()
    wait_until(lambda: sum(worker["connections"] for worker in service.workers()) == 3)
    full[busy].send(request("/block"))
    wait_until((service.directory / "blocks").exists)
    late = client_of(service, clients)
    late.send(request("/pid"))
    # Taken at once, though its request has to wait for the thread: that is fewer than a full worker can offer.
    wait_until(lambda: sum(worker["connections"] for worker in service.workers()) == 4)
    (service.directory / "go").touch()
    assert late.answer().body == pids[busy]


BLOCKS = """
import os, pathlib, time
HERE = pathlib.Path("DIRECTORY")
def app(environ, start_response):
    if environ["PATH_INFO"] == "/block":
        (HERE / "blocks").touch()
        while not (HERE / "go").exists():
            time.sleep(0.01)
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def hello(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [])
    return [b"hello"]


def test_a_client_without_room_that_does_not_ask_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surplus, "PATIENCE_SECONDS", 0.05)
    with serving(hello) as server:
        server.has_no_room = True
        with server.client() as client:
            assert client.rest() == b""
        assert server.ledger.done == []


def test_those_who_are_told_to_come_back_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surplus, "MOST_SURPLUS", 2)
    with serving(hello) as server, ExitStack() as stack:
        server.has_no_room = True
        waiting = [stack.enter_context(server.client()) for _ in range(2)]  # They are accepted in this order.
        assert stack.enter_context(server.client()).rest() == b""
        for client in waiting:
            assert client.get().status == 503
            client.reset()
        assert server.ledger.done == [503, 503]


def test_every_client_without_room_is_told_of_once_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surplus, "REPORT_SECONDS", 0.5)
    with serving(hello, limits={"connections": 7}) as server:
        server.has_no_room = True
        said = server.ledger.warnings
        began = time.monotonic()
        for sent in range(1, 4):
            with server.client() as client:
                assert client.get().status == 503
            wait_until(lambda: sum(count_of(each) for each in said) == sent)  # noqa: B023 - waited for here
        assert time.monotonic() - began > 2 * 0.5
    assert [(SENT_AWAY in message, fields) for message, fields in said] == [(True, {"count": 1, "limit": 7})] * 3


def count_of(warning: tuple[str, dict[str, Any]]) -> int:
    count: int = warning[1]["count"]
    return count


def test_the_end_of_a_worker_waits_for_nobody_without_room() -> None:
    with serving(hello) as server:
        server.has_no_room = True
        with server.client(), server.client() as later:
            assert later.get().status == 503  # The one before it is there, too.
            assert server.engine.is_idle

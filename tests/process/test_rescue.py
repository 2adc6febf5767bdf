"""A worker that hangs costs the requests that hang: its other connections go to other workers before it is killed."""

import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from clusterd.master.sockets.rebalancing import Rebalancing
from tests.support.clients import REQUEST, answer, connect
from tests.support.service import PATIENCE_SECONDS, Service, wait_until

MakeService = Callable[..., Service]

CLIENTS = 20

ASGI = """
import os, threading
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"] == "/hang":
        threading.Event().wait()
    later = threading.Event().wait if scope["path"] == "/later" else lambda: None
    body = f"{os.getpid()} {os.environ['CLUSTERD_WORKER']} {os.environ['CLUSTERD_GENERATION']} 1".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
    later()
"""
WSGI = """
import os, threading
def app(environ, start_response):
    if environ["PATH_INFO"] == "/hang":
        threading.Event().wait()
    body = f"{os.getpid()} {os.environ['CLUSTERD_WORKER']} {os.environ['CLUSTERD_GENERATION']} 1".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
HANG = b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n"


def kept_alive(service: Service, clients: ExitStack, count: int = CLIENTS) -> dict[socket.socket, int]:
    """So many clients that have had an answer, and the pid of the worker that has each.

    They stay there: the master has evened them out.
    """
    opened = [clients.enter_context(connect(service)) for _ in range(count)]
    for client in opened:
        client.sendall(REQUEST)
        answer(client)

    def is_even() -> bool:
        held = {each["slot"]: each["connections"] for each in service.workers()}
        return len(held) > 1 and sum(held.values()) == count and not Rebalancing().moves(held, time.monotonic())

    wait_until(is_even, "each worker has its share")
    return {client: asked(client) for client in opened}


def asked(client: socket.socket) -> int:
    """The pid of the worker that has it."""
    client.sendall(REQUEST)
    return int(answer(client).split()[0])


@pytest.mark.parametrize("scheduling", ["least_connections", "round_robin"])
@pytest.mark.parametrize("source", [ASGI, WSGI], ids=["ASGI", "WSGI"])
def test_a_loop_that_hangs_costs_the_request_that_blocks_it(
    make_service: MakeService, source: str, scheduling: str
) -> None:
    service = make_service(workers=2, threads=0, scheduling=scheduling, timeouts={"hang": "4s", "stall": "1s"})
    service.deploy("1", source)
    service.start()
    with ExitStack() as clients:
        found = kept_alive(service, clients)
        hanging, hung = next(iter(found.items()))
        hanging.sendall(HANG)
        service.wait_for_line("an event loop has not turned for")
        others = [client for client in found if client is not hanging]
        for client in others:
            client.sendall(REQUEST)
        assert hung not in [int(answer(client).split()[0]) for client in others]
        assert ends(hanging)
    lost = service.wait_for_line("request lost with its worker")
    assert "target=/hang" in lost
    assert service.stop() == 0
    assert service.log().count("lost with") == 1


def test_a_loop_that_hangs_after_a_response_costs_nothing(make_service: MakeService) -> None:
    service = make_service(workers=2, timeouts={"hang": "2s"})
    service.deploy("1", ASGI)
    service.start()
    with ExitStack() as clients:
        found = kept_alive(service, clients, 4)
        hanging, hung = next(iter(found.items()))
        hanging.sendall(HANG.replace(b"hang", b"later"))
        assert int(answer(hanging).split()[0]) == hung
        service.wait_for_line("worker failed: .*reason=hang")
        for client in found:
            client.sendall(REQUEST)
        assert hung not in [int(answer(client).split()[0]) for client in found]
    assert service.stop() == 0
    assert "lost with" not in service.log()


def test_a_worker_that_somebody_has_stopped_costs_nothing(make_service: MakeService) -> None:
    service = make_service(workers=2, timeouts={"hang": "2s"})
    service.deploy("1", ASGI)
    service.start()
    with ExitStack() as clients:
        found = kept_alive(service, clients)
        stopped = stopped_one(service, found)
        for client in found:
            client.sendall(REQUEST)
        assert stopped not in [int(answer(client).split()[0]) for client in found]
    assert service.stop() == 0
    assert "lost with" not in service.log()


def test_connections_to_a_unix_socket_are_given_away_too(make_service: MakeService) -> None:
    service = make_service(workers=2, timeouts={"hang": "2s"})
    path = service.directory / "app.sock"
    service.configure(listen=[f"127.0.0.1:{service.port}", f"unix:{path}"])
    service.deploy("1", ASGI)
    service.start()
    with ExitStack() as clients:
        found = {}
        for _ in range(6):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.settimeout(PATIENCE_SECONDS)
            client.connect(str(path))
            client.sendall(REQUEST)
            found[client] = int(answer(client).split()[0])
        stopped = stopped_one(service, found)
        for client in found:
            client.sendall(REQUEST)
        assert stopped not in [int(answer(client).split()[0]) for client in found]
    assert service.stop() == 0


def test_threads_that_hang_cost_the_requests_that_they_run(make_service: MakeService) -> None:
    service = make_service(workers=2, threads=1, timeouts={"hang": "2s"})
    service.deploy("1", WSGI)
    service.start()
    with ExitStack() as clients:
        found = kept_alive(service, clients)
        hanging, hung = next(iter(found.items()))
        hanging.sendall(HANG)
        assert ends(hanging)
        others = [client for client in found if client is not hanging]
        for client in others:
            client.sendall(REQUEST)
        assert hung not in [int(answer(client).split()[0]) for client in others]
    assert service.stop() == 0
    assert service.log().count("lost with") == 1


def test_a_drain_that_a_blocked_loop_holds_up_costs_the_request_that_blocks_it(make_service: MakeService) -> None:
    service = make_service(workers=2, timeouts={"drain": "1s", "stall": "500ms", "hang": "1h"})
    service.deploy("1", ASGI)
    service.start()
    with ExitStack() as clients:
        found = kept_alive(service, clients)
        hanging, hung = next(iter(found.items()))
        hanging.sendall(HANG)
        service.wait_for_line("an event loop has not turned for")
        others = [client for client in found if client is not hanging]
        for client in others:
            client.sendall(REQUEST)
        assert service.reload().returncode == 0
        assert hung not in [int(answer(client).split()[0]) for client in others]
        assert ends(hanging)
    assert service.stop() == 0
    assert service.log().count("lost with") == 1


def stopped_one(service: Service, found: dict[socket.socket, int]) -> int:
    """Stop a worker from outside, when it knows that it has answered."""
    wait_until(lambda: not any(worker["in_flight"] for worker in service.workers()), "no request is in hand")
    stopped = next(iter(found.values()))
    os.kill(stopped, signal.SIGSTOP)
    return stopped


def ends(client: socket.socket) -> bool:
    """Whether the connection ends without an answer."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True

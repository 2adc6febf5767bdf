"""Who accepts: the worker that has least to do, and never one that could not serve while another can."""

import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.process.service import Service, wait_until

MakeService = Callable[..., Service]

SLEEPS = """
import os, time
def app(environ, start_response):
    time.sleep(float(environ["QUERY_STRING"] or 0))
    body = os.environ["CLUSTERD_WORKER"].encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""

SPINS = (
    SLEEPS.replace("time.sleep(float(", "spin(float(")
    + """
def spin(seconds):
    if seconds:
        open("spinning", "w").close()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
"""
)


def seconds_of(service: Service, requests: int, pause: float, seconds: float) -> list[float]:
    """How long each request took that were sent on connections of their own, `pause` apart."""

    def one(number: int) -> float:
        time.sleep(number * pause)
        started = time.monotonic()
        assert service.get(f"/?{seconds}").status_code == 200
        return time.monotonic() - started

    with ThreadPoolExecutor(requests) as pool:
        return list(pool.map(one, range(requests)))


@pytest.mark.parametrize(("workers", "threads"), [(2, 1), (4, 1), (2, 4)])
def test_no_request_waits_while_a_worker_has_a_free_thread(
    make_service: MakeService, workers: int, threads: int
) -> None:
    service = make_service(workers=workers, threads=threads)
    service.deploy("1", SLEEPS)
    service.start()
    for pause in (0.0, 0.02):
        taken = seconds_of(service, workers * threads, pause, 0.5)
        # Two in a row would be 1.0.
        assert max(taken) < 0.9, taken


@pytest.mark.parametrize("workers", [2, 4])
def test_kept_alive_connections_are_spread_evenly(make_service: MakeService, workers: int) -> None:
    service = make_service(workers=workers, threads=2).start()
    clients = []
    for _ in range(20):
        client = socket.create_connection(("127.0.0.1", service.port), timeout=30)
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        clients.append(client)
    wait_until(lambda: is_even(service, workers, connections=20), "all have about as many")
    for client in clients:
        client.close()


@pytest.mark.parametrize("threads", [0, 4])
def test_connections_even_out_when_a_worker_is_added_and_none_is_closed(
    make_service: MakeService, threads: int
) -> None:
    service = make_service(workers=2, threads=threads).start()
    over = threading.Event()
    failures: list[str] = []

    def ask() -> None:
        try:
            with socket.create_connection(("127.0.0.1", service.port), timeout=30) as client:
                while not over.wait(0.01):
                    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                    assert client.recv(4096).startswith(b"HTTP/1.1 200")
        except Exception as error:
            failures.append(repr(error))

    clients = [threading.Thread(target=ask) for _ in range(30)]
    for client in clients:
        client.start()
    wait_until(lambda: sum(worker["connections"] for worker in service.workers()) == 30, "all are counted")
    for workers in (3, 4, 3, 2):
        service.signal(signal.SIGTTIN if workers > len(service.workers()) else signal.SIGTTOU)
        wait_until(lambda: is_even(service, workers, connections=30), "all have their share")  # noqa: B023
    over.set()
    for client in clients:
        client.join(30)
    assert failures == []


def is_even(service: Service, workers: int, connections: int) -> bool:
    held = [worker["connections"] for worker in service.workers()]
    return len(held) == workers and sum(held) == connections and max(held) <= 1.25 * min(held) + 1


def test_a_worker_whose_loop_is_busy_gets_no_new_connections(make_service: MakeService) -> None:
    service = make_service(workers=2, threads=0)
    service.deploy("1", SPINS)
    service.start()
    spinning = service.directory / "spinning"
    with ThreadPoolExecutor(1) as pool:
        for _ in range(5):
            busy = pool.submit(service.get, "/?1")
            wait_until(spinning.exists, "its worker is busy")
            answered: Counter[str] = Counter()
            worst = 0.0
            for _ in range(20):
                started = time.monotonic()
                answered[service.get().text] += 1
                worst = max(worst, time.monotonic() - started)
            assert busy.result().text not in answered
            spinning.unlink()
            assert worst < 0.6, worst

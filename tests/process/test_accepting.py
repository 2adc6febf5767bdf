"""Who accepts: the worker that has least to do, and never one that could not serve while another can."""

import os
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.clients import REQUEST, answer, connect, slot_of
from tests.support.service import Service, wait_until

MakeService = Callable[..., Service]

SAYS_WHO = """
    body = os.environ["CLUSTERD_WORKER"].encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""
MEETS = (
    """
import multiprocessing, os
everyone = multiprocessing.Barrier(EVERYONE)
def app(environ, start_response):
    everyone.wait(60)"""
    + SAYS_WHO
)
"""Each request is answered when EVERYONE of them are at work: one that waited for another would never be."""

SPINS = (
    """
import os, time
def app(environ, start_response):
    spin(float(environ["QUERY_STRING"] or 0))"""
    + SAYS_WHO
    + """
def spin(seconds):
    end = time.monotonic() + seconds
    if seconds:
        with open("spins", "w") as file:
            file.write(str(end))
        os.rename("spins", "spinning")
    while time.monotonic() < end:
        pass
"""
)


@pytest.mark.parametrize(("workers", "threads"), [(2, 1), (4, 1), (2, 4)])
def test_no_request_waits_while_a_worker_has_a_free_thread(
    make_service: MakeService, workers: int, threads: int
) -> None:
    everyone = workers * threads
    service = make_service(workers=workers, threads=threads)
    service.deploy("1", MEETS.replace("EVERYONE", str(everyone)))
    service.start()
    accepting(service, workers)
    for pause in (0.0, 0.02):
        with ExitStack() as clients:
            made = []
            for _ in range(everyone):
                made.append(clients.enter_context(connect(service)))
                made[-1].sendall(REQUEST)
                time.sleep(pause)  # The workers have more or less time to see each other's state.
            assert Counter(map(answer, made)) == {str(slot): threads for slot in range(1, workers + 1)}


def test_four_workers_with_a_thread_each_answer_four_requests_at_once_every_time(make_service: MakeService) -> None:
    service = make_service(workers=4, threads=1)
    service.deploy("1", MEETS.replace("EVERYONE", "4"))
    service.start()
    accepting(service, 4)
    for _ in range(60):
        with ExitStack() as clients:
            made = []
            for _ in range(4):
                made.append(clients.enter_context(connect(service)))
                made[-1].sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert {answer(client) for client in made} == {"1", "2", "3", "4"}


EVEN_SECONDS = 2.0
"""How long kept-alive connections may be spread unevenly, after whatever made them so."""


@pytest.mark.parametrize("workers", [2, 4, 16])
@pytest.mark.parametrize("threads", [0, 4])
@pytest.mark.parametrize("at_once", [False, True], ids=["one by one", "at once"])
def test_kept_alive_connections_are_spread_evenly(
    make_service: MakeService, workers: int, threads: int, at_once: bool
) -> None:
    service = make_service(workers=workers, threads=threads, limits={"queue": 1000}).start()
    accepting(service, workers)
    with ExitStack() as clients:
        kept: list[socket.socket] = []
        for count in (8, 64, 1000):
            asked = 0
            while len(kept) < count:
                kept.append(clients.enter_context(connect(service)))
                kept[-1].sendall(REQUEST)
                if not at_once:
                    answer(kept[-1])
                asked += 1
            if at_once:
                for client in kept[-asked:]:
                    answer(client)
            evens_out(service, workers, count)
        slots = set()
        for client in kept:
            client.sendall(REQUEST)
            slots.add(slot_of(answer(client)))
        assert slots == set(range(1, workers + 1))


def accepting(service: Service, workers: int) -> None:
    """Ready is before that: with some of them still to begin, the others would be all there are."""
    wait_until(lambda: [w["accepting"] for w in service.workers()] == [True] * workers, "all accept")


def evens_out(service: Service, workers: int, connections: int) -> None:
    """The busiest worker soon has at most 1.25 times, and one, of what the least busy has; and nobody lost one."""
    began = time.monotonic()
    wait_until(lambda: is_even(service, workers, connections), "all have about as many")
    taken = time.monotonic() - began
    assert taken < EVEN_SECONDS, taken


def switches(pids: list[int]) -> int:
    """How often these processes have waited (proc_pid_status(5)): that of the loop, which is what a herd would wake."""
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return sum(int(re.findall(r"^voluntary_ctxt_switches:\s*(\d+)", text, re.M)[0]) for text in texts)


@pytest.mark.parametrize("threads", [0, 4])
@pytest.mark.parametrize("at_once", [1, 8])
def test_a_connection_wakes_no_herd(make_service: MakeService, threads: int, at_once: int) -> None:
    service = make_service(workers=16, threads=threads).start()
    accepting(service, 16)
    pids = [worker["pid"] for worker in service.workers()]
    rounds = 1000 // at_once
    before = switches(pids)
    for _ in range(rounds):
        made: list[socket.socket] = []
        with ExitStack() as clients:
            for _ in range(at_once):
                made.append(clients.enter_context(connect(service)))
                made[-1].sendall(REQUEST[:-2] + b"Connection: close\r\n\r\n")
            for client in made:
                answer(client)
    # A herd would be 16. The loops also turn a few times a second, which is more on a slow machine.
    assert (switches(pids) - before) / (rounds * at_once) <= 4


class Kept:
    """Clients that ask all the time, each on one connection, and on a new one where that is closed."""

    def __init__(self, service: Service, clients: int) -> None:
        self._service = service
        self._over = threading.Event()
        self.closed: list[str] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        for thread in self._threads:
            thread.start()
        wait_until(lambda: sum(worker["connections"] for worker in service.workers()) == clients, "all are counted")

    def _ask(self) -> None:
        while not self._over.is_set():
            with connect(self._service) as client:
                try:
                    while not self._over.wait(0.01):
                        client.sendall(REQUEST)
                        answer(client)
                except (OSError, AssertionError) as error:
                    self.closed.append(repr(error))

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)


@pytest.mark.parametrize("threads", [0, 4])
def test_connections_even_out_when_a_worker_is_added_and_none_is_closed(
    make_service: MakeService, threads: int
) -> None:
    service = make_service(workers=2, threads=threads).start()
    kept = Kept(service, 30)
    try:
        for workers in (3, 4, 3, 2):
            service.signal(signal.SIGTTIN if workers > len(service.workers()) else signal.SIGTTOU)
            evens_out(service, workers, connections=30)
    finally:
        kept.end()
    assert kept.closed == []


@pytest.mark.parametrize("threads", [0, 4])
def test_connections_even_out_after_a_crash_and_no_others_are_closed(make_service: MakeService, threads: int) -> None:
    service = make_service(workers=4, threads=threads).start()
    accepting(service, 4)
    kept = Kept(service, 42)
    try:
        evens_out(service, 4, connections=42)
        victim = service.workers()[0]
        os.kill(victim["pid"], signal.SIGKILL)
        wait_until(lambda: victim["pid"] not in {worker["pid"] for worker in service.workers()}, "its death is known")
        evens_out(service, 4, connections=42)
    finally:
        kept.end()
    assert len(kept.closed) == victim["connections"]


def is_even(service: Service, workers: int, connections: int) -> bool:
    held = [worker["connections"] for worker in service.workers()]
    return len(held) == workers and sum(held) == connections and max(held) <= 1.25 * min(held) + 1


@pytest.mark.parametrize("seconds", [0.2, 1.0])
def test_a_worker_whose_loop_is_busy_gets_no_new_connections(make_service: MakeService, seconds: float) -> None:
    service = make_service(workers=2, threads=0)
    service.deploy("1", SPINS)
    service.start()
    accepting(service, 2)
    spinning = service.directory / "spinning"
    rounds, late = int(3 / seconds), 0
    with ThreadPoolExecutor(1) as pool:
        for _ in range(rounds):
            busy = pool.submit(service.get, f"/?{seconds}")
            wait_until(spinning.exists, "its worker is busy")
            ends = float(spinning.read_text())
            answered: Counter[str] = Counter()
            while time.monotonic() < ends - seconds / 4:
                text = service.get().text
                # Whoever waits for the worker that is busy waits for its end. So does one that this machine holds up.
                if time.monotonic() < ends:
                    answered[text] += 1
                else:
                    late += 1
            assert busy.result().text not in answered
            assert answered
            spinning.unlink()
    assert late < 0.8 * rounds  # All of them, if new connections wait for the worker that is busy.

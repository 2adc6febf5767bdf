"""scheduling: round_robin: of what the master has accepted nothing is lost, whatever becomes of the workers."""

import os
import signal
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import REQUEST, answer, asking, connect, loaded, slot_of
from tests.support.passed import pass_to
from tests.support.service import HELLO, Service, wait_until

MakeService = Callable[..., Service]


# ---- reloads and stops


@pytest.mark.parametrize("threads", [0, 4])
def test_reloads_lose_nothing(make_service: MakeService, threads: int) -> None:
    service = make_service(scheduling="round_robin", threads=threads).start()
    with loaded(service) as load:
        for _ in range(5):
            assert service.reload().returncode == 0
    assert load.failures == []
    assert load.generations == {"1", "2", "3", "4", "5", "6"}


@pytest.mark.parametrize("others", ["least_connections", "shared"])
def test_a_change_of_the_scheduling_loses_nothing(make_service: MakeService, others: str) -> None:
    service = make_service(scheduling=others).start()
    with loaded(service) as load:
        for scheduling in ("round_robin", others, "round_robin", others):
            service.configure(scheduling=scheduling)
            assert service.reload().returncode == 0
    assert load.failures == []


FAILS_IN_SLOT_2 = (
    HELLO
    + """
def prepare():
    if os.environ["CLUSTERD_WORKER"] == "2":
        raise RuntimeError("broken")
"""
)


@pytest.mark.parametrize("preload", [True, False])
def test_a_withdrawn_reload_loses_nothing(make_service: MakeService, preload: bool) -> None:
    """Without preloading, predecessors are told to serve again that were told to retire."""
    service = make_service(scheduling="round_robin", preload=preload).start()
    with loaded(service) as load:
        service.deploy("2", FAILS_IN_SLOT_2)
        service.configure(worker_start="app:prepare")
        assert service.reload().returncode == 1
        service.wait_for_status("^Serving: 2 workers, generation 1; .*FAILED")
        before = load.answered
        wait_until(lambda: load.answered > before + 50, "the old generation serves on")
        wait_until(lambda: service.ask().slot == 1, "the first is in the turn again")
        wait_until(lambda: service.ask().slot == 2, "and so is the second")
    assert load.failures == []
    assert load.generations == {"1", "2"}


def test_what_systemd_passed_keeps_its_queue_for_the_next_start(make_service: MakeService) -> None:
    service = make_service(scheduling="round_robin")
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        service.port = listener.getsockname()[1]
        pass_to(service, listener)
        service.start()
        with loaded(service, kept=0) as load:
            for _ in range(3):
                assert service.stop() == 0
                service.start()
                before = load.answered
                wait_until(lambda: load.answered > before + 50, "the load goes on")  # noqa: B023
        assert load.failures == []


# ---- workers that do not take what they are dealt


SOMETIMES_BUSY = """
import os, pathlib, time
HERE = pathlib.Path("DIRECTORY")
def app(environ, start_response):
    if environ["PATH_INFO"] == "/fork" and os.fork() == 0:
        time.sleep(600)
    if environ["PATH_INFO"] == "/block":
        (HERE / "blocks").touch()
        while not (HERE / "go").exists():
            time.sleep(0.01)
    body = f"{os.getpid()} {os.environ['CLUSTERD_WORKER']} {os.environ['CLUSTERD_GENERATION']}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""


def two_workers(make_service: MakeService, **settings: Any) -> Service:
    service = make_service(scheduling="round_robin", workers=2, threads=1, **settings)
    service.deploy("1", SOMETIMES_BUSY.replace("DIRECTORY", str(service.directory)))
    return service.start()


def stopped(service: Service, slot: int) -> int:
    """Have the worker in `slot` read nothing; its pid."""
    (pid,) = (worker["pid"] for worker in service.workers() if worker["slot"] == slot)
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "it is stopped")
    return int(pid)


@pytest.mark.parametrize("path", ["/", "/fork"])
def test_what_a_dead_worker_has_not_read_another_answers(
    make_service: MakeService, clients: ExitStack, path: str
) -> None:
    """Also where its end of the socketpair outlives it in a child of its own."""
    service = two_workers(make_service)
    assert {slot_of(service.get(path).text) for _ in range(2)} == {1, 2}
    pid = stopped(service, 1)
    made = asking(service, clients, 6)
    # Every other one is dealt to the worker that does not read.
    wait_until(lambda: sum(worker["requests"] for worker in service.workers()) >= 2 + 3, "the other has its share")
    os.kill(pid, signal.SIGKILL)
    answered = Counter(slot_of(answer(client)) for client in made)
    assert answered[2] >= 3
    assert answered.total() == 6
    assert service.get().status_code == 200


def test_what_a_stopped_worker_does_not_take_another_answers(make_service: MakeService, clients: ExitStack) -> None:
    service = two_workers(make_service)
    pid = stopped(service, 1)
    made = asking(service, clients, 20)
    assert {slot_of(answer(client)) for client in made} == {2}
    service.wait_for_line("worker does not take its connections, others get them slot=1")
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: slot_of(service.get().text) == 1, "it is in the turn again")
    # What it found in its old queue it has left alone.
    again = asking(service, clients, 8)
    assert Counter(slot_of(answer(client)) for client in again) == {1: 4, 2: 4}


def test_a_worker_that_dies_during_a_stop_leaves_its_connections_to_one_that_drains(
    make_service: MakeService, clients: ExitStack
) -> None:
    service = two_workers(make_service, timeouts={"drain": "60s", "drain_idle": "30s"})
    blocked = clients.enter_context(connect(service))
    blocked.sendall(REQUEST.replace(b"GET /", b"GET /block"))
    wait_until((service.directory / "blocks").exists, "a worker is busy")
    busy = wait_until(lambda: sum(each["slot"] for each in service.workers() if each["in_flight"]), "it is counted")
    pid = stopped(service, 3 - busy)
    made = asking(service, clients, 6)
    wait_until(lambda: sum(w["connections"] for w in service.workers()) >= 1 + 3, "the other has its share")
    service.signal(signal.SIGTERM)
    service.wait_for_line(f"worker draining.*slot={3 - busy}")
    os.kill(pid, signal.SIGKILL)
    service.wait_for_line(f"worker ended.*slot={3 - busy}")
    wait_until(lambda: sum(w["connections"] for w in service.workers("draining")) == 1 + 6, "it has them all")
    (service.directory / "go").touch()
    assert {slot_of(answer(client)) for client in [blocked, *made]} == {busy}
    assert service.wait() == 0

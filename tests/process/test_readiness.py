"""/readyz while no worker answers: a proxy that could ask another host has to be told within seconds."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.service import HELLO, Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]

BLOCKS = HELLO.replace(
    "def app",
    """
import threading, time
def blocks():
    while not os.path.exists(os.path.join(os.path.dirname(__file__), "go")):
        time.sleep(0.01)

def app""",
).replace("    body", '    if environ["PATH_INFO"] == "/block":\n        blocks()\n    body', 1)


def not_ready(service: Service) -> str | None:
    answer = service.metrics("/readyz")
    assert answer.status_code in (200, 503)
    return None if answer.status_code == 200 else answer.text


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_a_service_whose_workers_are_all_stopped_is_not_ready(make_service: MakeService) -> None:
    service = make_service(workers=2, timeouts={"hang": "10m"}).start()
    pids = [worker["pid"] for worker in service.workers()]
    with stopped(pids[:1]):
        assert not_ready(service) is None
        with stopped(pids[1:]):
            said = wait_until(lambda: not_ready(service), "it is not ready")
            assert said.startswith("not ready since ") and said.endswith(": no worker's event loop turns\n")
            assert service.metrics("/readyz?verbose").text.splitlines() == [
                "[+]service: running",
                "[+]rotation: in rotation",
                "[+]workers: 2 of 2 are ready",
                "[-]event loops: the event loop of workers 1, 2 does not turn",
                "[+]threads: all make progress, or nothing waits",
                "[+]queues: all have room",
                said.rstrip("\n"),
            ]
            assert service.wait_for_status("not ready since").endswith(said.rstrip("\n"))
        wait_until(lambda: not_ready(service) is None, "one of them is enough")
    service.wait_for_line("warning: not ready since .*: no worker's event loop turns")
    service.wait_for_line("notice: ready again")
    service.wait_for_status("^Serving: 2 workers, generation 1$")


def test_a_service_whose_threads_are_all_stuck_is_not_ready_when_somebody_waits(make_service: MakeService) -> None:
    settings = {"workers": 2, "threads": 1, "timeouts": {"unready": "1s", "hang": "10m"}}
    service = make_service(**settings)
    service.deploy("1", BLOCKS)
    service.start()
    visitors = [threading.Thread(target=service.get, args=("/block",)) for _ in range(8)]
    for visitor in visitors:
        visitor.start()
    try:
        said = wait_until(lambda: not_ready(service), "it is not ready")
    finally:
        (service.directory / "go").touch()
        for visitor in visitors:
            visitor.join()
    assert said.endswith(": every thread of every worker is stuck while requests wait\n")
    wait_until(lambda: not_ready(service) is None, "it is ready again")


def test_a_service_whose_queues_stay_full_is_not_ready(make_service: MakeService) -> None:
    # Nobody is stuck: the queue has no room at all, and the only thread is always busy.
    limits = {"queue": 0}
    service = make_service(workers=1, threads=1, limits=limits, timeouts={"unready": "1s", "hang": "10m"})
    service.deploy("1", BLOCKS)
    service.start()
    visitor = threading.Thread(target=service.get, args=("/block",))
    visitor.start()
    try:
        said = wait_until(lambda: not_ready(service), "it is not ready")
    finally:
        (service.directory / "go").touch()
        visitor.join()
    assert "worker" in said
    wait_until(lambda: not_ready(service) is None, "it is ready again")

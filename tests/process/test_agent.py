"""HAProxy's agent-check, as it asks it."""

import os
import re
import signal
import socket
import time
from collections.abc import Callable

import pytest

from tests.support.controlling import done
from tests.support.managed import ManagedService
from tests.support.ports import free_port
from tests.support.service import Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]
MakeManaged = Callable[..., ManagedService]
ENOUGH = 45
"""The weight that a service without load has at least on a machine that is busy with other things: its event loops are
late, and count as busy.
"""


def asked(port: int) -> str:
    """What the agent answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        return sock.makefile().read()


def weight(port: int) -> int:
    """The weight that it answers, in percent."""
    answer = asked(port)
    found = re.fullmatch(r"ready up (\d+)%\n", answer)
    assert found is not None, answer
    return int(found[1])


def test_the_weight_climbs_to_all_and_no_faster_than_balancers_can_follow(make_service: MakeService) -> None:
    port = free_port()
    service = make_service(agent=f"127.0.0.1:{port}").start()
    began, first = time.monotonic(), weight(port)
    assert first < ENOUGH
    wait_until(lambda: weight(port) >= ENOUGH, "it has climbed")
    assert time.monotonic() - began > (ENOUGH - first) / 20 - 1.5
    assert f"agent: 127.0.0.1:{port}" in service.log()


def test_it_says_drain_then_maint_and_climbs_again_afterwards(make_service: MakeService) -> None:
    port = free_port()
    service = make_service(agent=f"127.0.0.1:{port}", timeouts={"drain_idle": "0s", "announce": "1s"}).start()
    wait_until(lambda: weight(port) >= ENOUGH, "it has climbed")
    done(service, "drain")
    assert asked(port) == "drain\n"
    wait_until(lambda: asked(port) == "maint\n", "nothing is left")
    done(service, "undrain")
    assert weight(port) < ENOUGH
    service.signal(signal.SIGTERM)
    wait_until(lambda: asked(port) == "drain\n", "a stop is announced")
    assert service.wait() == 0


def test_it_says_down_while_no_worker_answers(make_service: MakeService) -> None:
    port = free_port()
    service = make_service(agent=f"127.0.0.1:{port}").start()
    workers = [worker["pid"] for worker in service.workers()]
    try:
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        answer = wait_until(lambda: (said := asked(port)).startswith("down") and said, "it is down")
        assert answer.startswith("down #not ready since ")
        assert "no worker's event loop turns" in answer
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
    wait_until(lambda: asked(port).startswith("ready up "), "it is up again")


def test_a_host_whose_master_dies_keeps_its_weight(make_managed: MakeManaged) -> None:
    port = free_port()
    service = make_managed(agent=f"127.0.0.1:{port}")
    service.start()
    wait_until(lambda: weight(port) >= ENOUGH, "it has climbed")
    before = service.seen().ready
    service.kill_the_master()
    wait_until(lambda: service.seen().ready > before, "the next master is ready")
    assert weight(port) >= ENOUGH

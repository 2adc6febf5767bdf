"""A worker that an attacker has taken over, beside one that serves: what it does costs only itself.

What it can do is in tests/support/hostile_worker.py. Nothing here has a limit of its own: a master that stalls does not
answer within the patience of every request.
"""

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import SystemRandom

import pytest

from tests.support import hostile_worker
from tests.support.service import Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]
SOURCE = Path(hostile_worker.__file__).read_text()
NAMES = re.findall(r"^@attack\ndef (\w+)", SOURCE, re.MULTILINE)
SETTINGS = {"workers": 2, "limits": {"connections": 100}, "timeouts": {"hang": "60s"}}
MOST_MEMORY = 160 << 20
"""Of the master. It begins with about 40 MiB."""
UNWANTED = r"Exception in (?!thread Thread-\d+ \(begin\))|never retrieved"
"""Faults of the server. The thread of an attack may find its own channel closed by an earlier one."""
MOST_DESCRIPTORS = 40
"""More than before. A spare template and connections that just end take some."""


@pytest.fixture(params=["least_connections", "round_robin"])
def service(make_service: MakeService, request: pytest.FixtureRequest) -> Service:
    made = make_service(scheduling=request.param, **SETTINGS)
    made.deploy("1", SOURCE)
    return made.start()


@pytest.mark.parametrize("name", NAMES)
def test_it_costs_only_itself(make_service: MakeService, name: str) -> None:
    service = make_service(**SETTINGS)
    service.deploy("1", SOURCE)
    service.start()
    with guarded(service):
        do(service, name, 1)


def test_whatever_it_does_one_after_the_other_costs_only_itself(service: Service) -> None:
    seed = SystemRandom().randrange(1 << 16)
    print(f"seed {seed}")
    with guarded(service):
        for number in range(5):
            do(service, NAMES[(seed * 7 + number * 5) % len(NAMES)], seed)
            do(service, "storms", seed + number)


def do(service: Service, name: str, seed: int) -> None:
    """Have worker 1 do it, and ask the master for everything meanwhile and afterwards."""
    after = len(service.lines)
    while not has_begun(service, name, after):  # The one that was told may have died of the attack before.
        tell(service, name, seed, after)
    for _ in range(5):
        for command in ("status", "events", "top"):
            assert service.ask_to(command)["succeeded"], command
        service.ask_to("stacks", slot=1)
        assert service.metrics().status_code == 200
        assert service.metrics("/").status_code == 200
    wait_until(lambda: serving(service, 1), f"worker 1 serves after {name}")


def tell(service: Service, name: str, seed: int, after: int) -> None:
    """Tell worker 1 to do it, and wait until it has begun or has died."""
    told = wait_until(lambda: serving(service, 1), "there is a worker 1")
    service.clusterctl("send", "1", f'["{name}", {seed}]')
    wait_until(lambda: has_begun(service, name, after) or serving(service, 1) != told, f"{name} is begun")


def has_begun(service: Service, name: str, after: int) -> bool:
    return f"attack begins: {name}" in service.lines[after:]


def serving(service: Service, slot: int) -> int | None:
    return next((worker["pid"] for worker in service.workers() if worker["slot"] == slot), None)


@contextmanager
def guarded(service: Service) -> Iterator[None]:
    """Everything that is not worker 1 is afterwards as it was before, and has served all the time."""
    neighbour, descriptors = serving(service, 2), descriptors_of(service.pid)
    refused: list[str] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.wait(0.02):
            try:
                answer = service.get()
            except OSError:
                continue  # Worker 1 has closed it, or has died with it.
            if answer.status_code != 200:
                refused.append(answer.text)

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        yield
    finally:
        is_over.set()
        for client in clients:
            client.join()
    assert not refused
    service.wait_for_status("^Serving: 2 workers, generation 1$")
    assert serving(service, 2) == neighbour, "the neighbour has been replaced"
    others = [line for line in service.lines if re.search("template died|spare template takes|ended.* slot=2", line)]
    assert not others
    wait_until(lambda: descriptors_of(service.pid) < descriptors + MOST_DESCRIPTORS, "the descriptors are closed")
    assert memory_of(service.pid) < MOST_MEMORY
    assert service.reload().returncode == 0
    assert not [line for line in service.lines if re.search(UNWANTED, line)]
    assert service.stop() == 0


def descriptors_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def memory_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

"""Three hosts behind Debian's HAProxy, by the configuration of docs/many-hosts.md: drained, stopped, and one slow."""

import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest
import requests

from tests.support.controlling import done
from tests.support.documented import MANY_HOSTS, haproxy_configurations
from tests.support.neighbours import needs, neighbour
from tests.support.ports import accepts, free_port
from tests.support.service import Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]
NAMES = ("web1", "web2", "web3")
CLIENTS = 16
FAST, SLOW = 0.02, 1.0
APPLICATION = f"""
import os, time
def app(environ, start_response):
    environ["wsgi.input"].read()
    time.sleep({SLOW} if os.path.exists("SLOW_FILE") else {FAST})
    start_response("200 OK", [("Content-Length", "4")])
    return [b"NAME"]
"""
"""Answers with its name, and takes much longer where a file says so: also on a busy machine."""


class Balanced:
    """The hosts, and the HAProxy before them."""

    def __init__(self, directory: Path, services: dict[str, Service], port: int) -> None:
        self.services = services
        self.port = port
        self._socket = directory / "admin.sock"

    def slow_file(self, name: str) -> Path:
        """The file that makes a host slow."""
        return self.services[name].directory / "slow"

    def order(self, command: str) -> str:
        """What HAProxy answers to a command (its Management Guide, section 9.3)."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self._socket))
            sock.sendall(f"{command}\n".encode())
            return sock.makefile().read()

    def state(self, name: str) -> tuple[str, int]:
        """How HAProxy has a host: its status and its weight."""
        rows = [line.split(",") for line in self.order("show stat").splitlines() if line]
        columns = rows[0]
        (row,) = [dict(zip(columns, each, strict=False)) for each in rows if each[:2] == ["app", name]]
        return row["status"], int(row["weight"])


class Crowd:
    """Clients without a pause, half of them with kept connections; half of the requests are POSTs."""

    def __init__(self, port: int) -> None:
        self.answers: list[tuple[float, str]] = []
        self.wrong: list[str] = []
        self._url = f"http://127.0.0.1:{port}/"
        self._over = Event()
        self._threads = [Thread(target=self._ask, args=(number,)) for number in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def since(self, moment: float) -> Counter[str]:
        """Who has answered since then, and how often."""
        return Counter(name for at, name in list(self.answers) if at >= moment)

    def end(self) -> None:
        """End all clients."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        session = requests.Session()
        session.trust_env = False
        while not self._over.is_set():
            try:
                answer = session.request(("GET", "POST")[number % 2], self._url, data=b"x" * 100, timeout=60)
                self.answers.append((time.monotonic(), answer.text))
                if answer.status_code != 200:
                    self.wrong.append(f"{answer.status_code} {answer.text}")
            except requests.RequestException as error:
                self.wrong.append(repr(error))
            if number % 4 > 1:
                session.close()
        session.close()


def is_up(state: tuple[str, int]) -> bool:
    """Whether a host takes requests. On a machine that is busy with other things its event loops are late."""
    return state[0] == "UP" and state[1] >= 45


@pytest.fixture
def balanced(make_service: MakeService, tmp_path: Path) -> Iterator[Balanced]:
    needs("haproxy", "haproxy")
    (text,) = haproxy_configurations(MANY_HOSTS)
    services = {}
    for name in NAMES:
        agent = free_port()
        timeouts = {"announce": "3s", "drain_idle": "1s"}
        services[name] = service = make_service(agent=f"127.0.0.1:{agent}", timeouts=timeouts)
        slow = str(service.directory / "slow")
        service.deploy("1", APPLICATION.replace("NAME", name).replace("SLOW_FILE", slow))
        service.start()
        ours = f"server {name} 127.0.0.1:{service.port} port {service.metrics_port} agent-port {agent}"
        text, count = re.subn(rf"server {name} 10\.0\.0\.\d+:8000 port 8001", ours, text)
        assert count == 1
    port = free_port()
    text = text.replace("bind :80\n", f"bind 127.0.0.1:{port}\n")
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(f"global\n    stats socket {tmp_path}/admin.sock level admin\n{text}")
    with neighbour(["haproxy", "-db", "-f", str(configuration)], lambda: accepts(port)):
        made = Balanced(tmp_path, services, port)
        wait_until(lambda: all(is_up(made.state(name)) for name in NAMES), "all hosts have most of their weight")
        yield made


@contextmanager
def asked(balanced: Balanced) -> Iterator[Crowd]:
    crowd = Crowd(balanced.port)
    try:
        wait_until(lambda: all(crowd.since(0)[name] > 20 for name in NAMES), "all hosts answer")
        yield crowd
    finally:
        crowd.end()


def test_a_host_is_drained_put_back_and_stopped_and_nothing_is_lost(balanced: Balanced) -> None:
    service = balanced.services["web1"]
    with asked(balanced) as crowd:
        assert done(service, "drain", "--wait")["text"].startswith("drained: nothing is left")
        wait_until(lambda: balanced.state("web1")[0].startswith("MAINT"), "HAProxy shows that it can be worked on")
        spared = time.monotonic()
        wait_until(lambda: crowd.since(spared)["web2"] > 20, "others answer")
        assert "web1" not in crowd.since(spared)
        done(service, "undrain")
        wait_until(lambda: crowd.since(spared)["web1"] > 20, "it answers again")
        assert service.stop() == 0
        gone = time.monotonic()
        wait_until(lambda: crowd.since(gone)["web2"] > 20, "others answer")
        assert "web1" not in crowd.since(gone)
    assert crowd.wrong == []


def test_a_host_that_becomes_slow_gets_less_and_all_again_when_it_is_itself(balanced: Balanced) -> None:
    with asked(balanced) as crowd:
        usual = time.monotonic()
        wait_until(lambda: min(crowd.since(usual).values(), default=0) > 400, "what is usual is known")
        balanced.slow_file("web1").touch()
        others = ("web2", "web3")
        wait_until(
            lambda: balanced.state("web1")[1] < min(balanced.state(name)[1] for name in others) / 2, "it counts less"
        )
        slow = time.monotonic()
        wait_until(lambda: crowd.since(slow)["web2"] > 200, "others answer")
        answered = crowd.since(slow)
        assert answered["web1"] < min(answered[name] for name in others) / 2, answered
        balanced.slow_file("web1").unlink()
        wait_until(
            lambda: balanced.state("web1")[1] > min(balanced.state(name)[1] for name in others) / 2, "it counts again"
        )
    assert crowd.wrong == []

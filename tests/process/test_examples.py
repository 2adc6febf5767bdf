"""Every example is run as its README says, on ports of the test's own."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.process.programs import needs, program
from tests.process.service import PATIENCE_SECONDS, Service, free_port, wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"

MakeService = Callable[..., Service]
Example = Callable[..., Service]


@pytest.fixture
def example(make_service: MakeService) -> Example:
    """Make the service of an example's own configuration: only where it listens is the test's."""

    def make(path: str, *arguments: str) -> Service:
        service = make_service()
        service.config = EXAMPLES / path
        where = ("--listen", f"127.0.0.1:{service.port}", "--metrics", f"127.0.0.1:{service.metrics_port}")
        service.arguments = (*where, "--control", str(service.control), *arguments)
        return service

    return make


def pid_in(text: str) -> int:
    return int(text.partition("pid ")[2].split()[0].rstrip(","))


def test_each_example_says_what_it_shows() -> None:
    for directory in (each for each in EXAMPLES.iterdir() if each.name != "__pycache__"):
        assert (directory / "README.md").read_text().startswith(f"# {directory.name}\n\n")


def test_hello_names_the_pid_of_the_worker(make_service: MakeService) -> None:
    service = make_service(app="hello:app", directory=str(EXAMPLES / "hello")).start()
    pids = {worker["pid"] for worker in service.workers()}
    answered: set[int] = set()

    def all_have_answered() -> bool:
        answered.add(pid_in(service.get().text))
        return answered == pids

    wait_until(all_have_answered, "every worker has answered")


@pytest.mark.parametrize("name", ["flask", "fastapi"])
def test_a_killed_worker_of_a_scalable_server_is_replaced(example: Example, name: str) -> None:
    service = example(f"{name}/clusterd.yaml", "--workers", "2").start()
    answer = service.get().text
    assert answer.lower().startswith(f"hello from {name}: worker ")
    killed = pid_in(answer)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: killed not in [w["pid"] for w in service.workers()], "the kill is noticed")
    wait_until(lambda: len(service.workers()) == 2, "its place is filled")
    assert pid_in(service.get().text) in [w["pid"] for w in service.workers()]


def test_flask_computes_beside_other_requests(example: Example) -> None:
    service = example("flask/clusterd.yaml", "--workers", "2").start()
    done = threading.Event()
    answers: list[dict[str, int]] = []

    def compute() -> None:
        answers.append(service.get("/primes/200000").json())
        done.set()

    thread = threading.Thread(target=compute)
    thread.start()
    service.get()
    assert not done.is_set()
    thread.join(PATIENCE_SECONDS)
    assert answers[0]["primes"] == 17984


def test_fastapi_waits_for_many_in_one_worker(example: Example) -> None:
    service = example("fastapi/clusterd.yaml", "--workers", "1").start()
    threads = [threading.Thread(target=service.get, args=("/wait/0.5",)) for _ in range(20)]
    for thread in threads:
        thread.start()
    wait_until(lambda: service.workers()[0]["in_flight"] == 20, "twenty wait at once")
    assert pid_in(service.get().text) == service.workers()[0]["pid"]
    for thread in threads:
        thread.join(PATIENCE_SECONDS)


# ---- a deploy by a link


class Deployed:
    """The shop of the example below a directory of the test, and what its deploy script says."""

    def __init__(self, directory: Path, service: Service) -> None:
        self._source = directory / "source"
        self._bin = directory / "bin"
        self.destination = directory / "srv"
        self.service = service
        shutil.copytree(EXAMPLES / "symlink_deploy/shop", self._source)
        self._bin.mkdir()
        clusterctl = self._bin / "clusterctl"
        # Under the name that it is installed by.
        clusterctl.write_text(f'#!/bin/sh\nexec {sys.executable} -m clusterd.cli.clusterctl "$@"\n')
        clusterctl.chmod(0o755)
        text = (EXAMPLES / "symlink_deploy/clusterd.yaml").read_text()
        service.config = directory / "clusterd.yaml"
        service.config.write_text(
            text.replace("/srv/shop", str(self.destination))
            + f'listen: ["127.0.0.1:{service.port}"]\nmetrics: "127.0.0.1:{service.metrics_port}"\n'
            + f"control: {service.control}\n"
        )

    def deploy(self, change: Callable[[str], str]) -> "subprocess.CompletedProcess[str]":
        shop = self._source / "shop.py"
        shop.write_text(change(shop.read_text()))
        return subprocess.run(
            [EXAMPLES / "symlink_deploy/deploy", self._source, self.destination, self.service.config],
            env={**os.environ, "PATH": f"{self._bin}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def current(self) -> str:
        return os.readlink(self.destination / "current")


def test_a_deploy_by_a_link_refuses_nobody_and_a_bad_one_changes_nothing(
    make_service: MakeService, tmp_path: Path
) -> None:
    deployed = Deployed(tmp_path, make_service())
    service = deployed.service
    assert deployed.deploy(lambda text: text).returncode == 0
    service.start()
    with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE_SECONDS)) as kept:
        kept.connect()
        kept.auto_open = 0  # nor connect again
        assert ask(kept).startswith("version one, generation 1")
        second = deployed.deploy(lambda text: text.replace('"one"', '"two"'))
        assert second.returncode == 0, second.stderr
        assert ask(kept).startswith("version two, generation 2")
        serving = deployed.current()

        third = deployed.deploy(lambda text: text.replace("def app", "def def app"))
        assert third.returncode == 1
        assert "SyntaxError" in third.stderr
        assert deployed.current() == serving
        assert ask(kept).startswith("version two, generation 2")


def ask(connection: http.client.HTTPConnection) -> str:
    connection.request("GET", "/")
    return connection.getresponse().read().decode()


# ---- several services


def test_instances_share_a_host_and_nothing_else(example: Example) -> None:
    services: dict[str, Service] = {}
    for name, workers in (("blog", 1), ("shop", 2)):
        service = example(f"instances/{name}.yaml", "--directory", str(EXAMPLES / "instances"))
        service.environment["CLUSTERD_INSTANCE"] = name
        services[name] = service.start()
        assert len(service.workers()) == workers
    blog, shop = services["blog"], services["shop"]
    assert blog.get().text.startswith("the blog: instance blog, worker 1, ")
    assert shop.get().text.startswith("the shop: instance shop, worker ")
    before = blog.get().text
    assert shop.reload().returncode == 0
    assert shop.stop() == 0
    assert blog.get().text == before


# ---- proxies


def answers(port: int) -> Callable[[], bool]:
    """Whether somebody answers 200 on a port."""

    def look() -> bool:
        try:
            return seen_through(port)["client"] == "127.0.0.1"
        except (OSError, http.client.HTTPException, ValueError):
            return False

    return look


def seen_through(port: int, source: str = "127.0.0.1", **headers: str) -> dict[str, Any]:
    """What the application has seen of a request from an address of this machine."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", port, timeout=PATIENCE_SECONDS, source_address=(source, 0)
    )
    with closing(connection):
        connection.request("GET", "/", headers=headers)
        response = connection.getresponse()
        seen: dict[str, Any] = json.loads(response.read())
        return seen


def with_ports(path: Path, directory: Path, ports: dict[int, int]) -> Path:
    """A copy of a configuration that listens, and asks, elsewhere."""
    text = path.read_text()
    for written, port in ports.items():
        assert f"127.0.0.1:{written}" in text
        text = text.replace(f"127.0.0.1:{written}", f"127.0.0.1:{port}")
    copy = directory / path.name
    copy.write_text(text)
    return copy


def test_nginx_tells_the_clients_address_and_keeps_its_connections(example: Example, tmp_path: Path) -> None:
    needs("nginx", "nginx-light")
    service = example("nginx/clusterd.yaml", "--workers", "2").start()
    port = free_port()
    configuration = with_ports(EXAMPLES / "nginx/nginx.conf", tmp_path, {8000: service.port, 8080: port})
    prefix = tmp_path / "prefix"
    prefix.mkdir()
    with program(["nginx", "-p", str(prefix), "-e", "stderr", "-c", str(configuration)], answers(port)):
        assert seen_through(port, "127.0.0.2")["client"] == "127.0.0.2"
        forged = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https"}
        seen = seen_through(port, "127.0.0.3", **forged)
        assert (seen["client"], seen["scheme"]) == ("127.0.0.3", "http")
        assert service.reload().returncode == 0
        assert seen_through(port, "127.0.0.2")["pid"] in [worker["pid"] for worker in service.workers()]


def test_haproxy_tells_the_clients_address_in_both_ways(example: Example, tmp_path: Path) -> None:
    needs("haproxy", "haproxy")
    by_header, by_protocol = example("haproxy/http.yaml").start(), example("haproxy/tcp.yaml").start()
    ports = {8080: free_port(), 9080: free_port()}
    asked = {8000: by_header.port, 9000: by_protocol.port}
    configuration = with_ports(EXAMPLES / "haproxy/haproxy.cfg", tmp_path, {**ports, **asked})

    def ready() -> bool:
        return all(answers(port)() for port in ports.values())

    with program(["haproxy", "-db", "-f", str(configuration)], ready):
        for port in ports.values():
            assert seen_through(port, "127.0.0.2")["client"] == "127.0.0.2"
            assert seen_through(port, "127.0.0.3", **{"X-Forwarded-For": "6.6.6.6"})["client"] == "127.0.0.3"
        with socket.create_connection(("127.0.0.1", by_protocol.port), PATIENCE_SECONDS) as passing_by:
            passing_by.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            try:
                assert passing_by.recv(100) == b""
            except ConnectionResetError:
                pass  # closed with our request unread

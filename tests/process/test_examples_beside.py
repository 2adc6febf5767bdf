"""The examples that have another server beside clusterd, with that of Debian."""

import http.client
import json
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.examples import EXAMPLES, Example, promised
from tests.support.neighbours import needs, neighbour, with_ports
from tests.support.ports import accepts, free_port
from tests.support.service import PATIENCE_SECONDS, Service, wait_until

pytestmark = pytest.mark.engine_independent


def answers(port: int) -> Callable[[], bool]:
    """Whether the application answers on a port."""

    def look() -> bool:
        try:
            return bool(seen_through(port)["client"] == "127.0.0.1")
        except (OSError, http.client.HTTPException, ValueError):
            return False

    return look


def seen_through(port: int, source: str = "127.0.0.1", **headers: str) -> dict[str, Any]:
    """What the application has seen of a request from an address of this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS, source_address=(source, 0))
    with closing(connection):
        connection.request("GET", "/", headers=headers)
        response = connection.getresponse()
        seen: dict[str, Any] = json.loads(response.read())
        return seen


def accepted(service: Service) -> float:
    """How many connections the service has accepted, by its metrics."""
    lines = service.metrics().text.splitlines()
    counts = [line.split()[-1] for line in lines if line.startswith("clusterd_http_connections_accepted_total")]
    return sum(map(float, counts))


def test_nginx_tells_the_clients_address_and_keeps_its_connections(example: Example, tmp_path: Path) -> None:
    needs("nginx", "nginx-light")
    service = example("nginx/clusterd.yaml", "--workers", "2").start()
    port = free_port()
    ports = {8000: service.port, 8010: free_port(), 8080: port}
    configuration = with_ports(EXAMPLES / "nginx/nginx.conf", tmp_path, ports)
    prefix = tmp_path / "prefix"
    prefix.mkdir()
    with neighbour(["nginx", "-p", str(prefix), "-e", "stderr", "-c", str(configuration)], answers(port)):
        assert seen_through(port, "127.0.0.2")["client"] == "127.0.0.2"
        forged = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https"}
        seen = seen_through(port, "127.0.0.3", **forged)
        assert (seen["client"], seen["scheme"]) == ("127.0.0.3", "http")
        promises = promised("nginx", "client")
        assert [seen_through(port, each.source, **each.headers)["client"] for each in promises] == [
            each.value for each in promises
        ]
        assert any(each.headers for each in promises)
        before = accepted(service)
        assert service.reload().returncode == 0
        new = [worker["pid"] for worker in service.workers()]
        wait_until(lambda: seen_through(port)["pid"] in new, "the connection has moved")
        assert accepted(service) == before


def test_haproxy_tells_the_clients_address_in_both_ways(example: Example, tmp_path: Path) -> None:
    needs("haproxy", "haproxy")
    by_header, by_protocol = example("haproxy/http.yaml").start(), example("haproxy/tcp.yaml").start()
    ports = {8080: free_port(), 9080: free_port()}
    asked = {8000: by_header.port, 8001: by_header.metrics_port, 8010: free_port(), 8011: free_port()}
    asked |= {9000: by_protocol.port, 9001: by_protocol.metrics_port}
    configuration = with_ports(EXAMPLES / "haproxy/haproxy.cfg", tmp_path, {**ports, **asked})

    def ready() -> bool:
        return all(answers(port)() for port in ports.values())

    with neighbour(["haproxy", "-db", "-f", str(configuration)], ready):
        for port in ports.values():
            assert seen_through(port, "127.0.0.2")["client"] == "127.0.0.2"
            assert seen_through(port, "127.0.0.3", **{"X-Forwarded-For": "6.6.6.6"})["client"] == "127.0.0.3"
        with socket.create_connection(("127.0.0.1", by_protocol.port), PATIENCE_SECONDS) as passing_by:
            passing_by.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            try:
                assert passing_by.recv(100) == b""
            except ConnectionResetError:
                pass  # closed with our request unread


def test_sessions_in_redis_are_shared_and_outlive_a_reload(example: Example) -> None:
    needs("redis-server", "redis-server")
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with neighbour(command, lambda: accepts(port)):
        url = f"--environment=REDIS_URL=redis://127.0.0.1:{port}/0"
        service = example("redis_sessions/clusterd.yaml", url).start()
        with requests.Session() as client:
            client.trust_env = False
            address = f"http://127.0.0.1:{service.port}/"
            close = {"Connection": "close"}
            first = client.get(address, headers=close).json()
            assert service.clusterctl("kill", str(first["worker"]), "--signal", "KILL").returncode == 0
            wait_until(lambda: first["pid"] not in [w["pid"] for w in service.workers()], "the kill is noticed")
            second = client.get(address, headers=close).json()
            assert (first["visits"], second["visits"]) == (1, 2)
            assert first["pid"] != second["pid"]
            assert service.reload().returncode == 0
            assert client.get(address, headers=close).json()["visits"] == 3
        assert service.get(cookies={"session": "made-up"}).json()["visits"] == 1

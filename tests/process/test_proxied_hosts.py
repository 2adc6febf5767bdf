"""Two hosts behind the proxies of Debian, by the configurations of the examples: what a host's end costs.

A proxy may send a request twice only if that does no harm (RFC 9110, section 9.2.2): so one that may not is lost with
the host that had it, and no other is.
"""

import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.documented import haproxy_configurations, nginx_configurations
from tests.support.examples import EXAMPLES
from tests.support.neighbours import ENVIRONMENT, needs, neighbour, with_ports
from tests.support.ports import accepts, free_port
from tests.support.proxied import APPLICATION, NAMES, Hosts, Toll
from tests.support.service import Service, wait_until

MakeService = Callable[..., Service]
PROXIES = ("haproxy", "nginx")
ROUNDS = 2

AWAY = 300
"""Requests that the other host answers before one that was stopped or killed is started again: some seconds."""


def hosts_of(make_service: MakeService) -> tuple[Service, Service]:
    """Two services that say who they are."""
    made = tuple(make_service(threads=8) for _ in NAMES)
    for service, name in zip(made, NAMES, strict=True):
        service.deploy(name, APPLICATION)
        service.start()
    return made[0], made[1]


@contextmanager
def behind(proxy: str, services: tuple[Service, Service], directory: Path) -> Iterator[Hosts]:
    """Hosts behind a proxy, by the configuration of its example."""
    one, two = services
    port = free_port()
    ports = {8000: one.port, 8010: two.port, 8080: port}
    if proxy == "haproxy":
        ports |= {8001: one.metrics_port, 8011: two.metrics_port}
        ports |= {other: free_port() for other in (9000, 9001, 9080)}
        configuration = with_ports(EXAMPLES / "haproxy/haproxy.cfg", directory, ports)
        # As Debian's own haproxy.cfg has it.
        admin = directory / "global.cfg"
        admin.write_text(f"global\n    stats socket {directory}/admin.sock level admin\n")
        command = ["haproxy", "-db", "-f", str(admin), "-f", str(configuration)]
    else:
        configuration = with_ports(EXAMPLES / "nginx/nginx.conf", directory, ports)
        command = ["nginx", "-p", str(directory), "-e", "stderr", "-c", str(configuration)]
    with neighbour(command, lambda: accepts(port)):
        yield Hosts(services, port)


@pytest.fixture(params=PROXIES)
def hosts(request: pytest.FixtureRequest, make_service: MakeService, tmp_path: Path) -> Iterator[Hosts]:
    """Two hosts behind each of the proxies."""
    proxy: str = request.param
    needs(proxy, {"haproxy": "haproxy", "nginx": "nginx-light"}[proxy])
    with behind(proxy, hosts_of(make_service), tmp_path) as made:
        yield made


def test_a_host_that_is_stopped_or_restarted_loses_nothing(hosts: Hosts) -> None:
    with hosts.asked() as clients:
        for _ in range(ROUNDS):
            assert_nothing_is_lost(hosts.toll(clients, "stopped", hosts.stop, AWAY))
            assert_nothing_is_lost(hosts.toll(clients, "restarted", hosts.stop))
    assert_no_unsafe_request_was_repeated(hosts)


def test_a_host_that_is_killed_loses_what_it_had_and_may_not_be_repeated(hosts: Hosts) -> None:
    with hosts.asked() as clients:
        for _ in range(ROUNDS):
            toll = hosts.toll(clients, "killed", hosts.kill, AWAY)
            assert {each.request.method for each in toll.lost} <= {"POST"}, toll
    assert_no_unsafe_request_was_repeated(hosts)


def test_haproxy_accepts_what_is_documented(tmp_path: Path) -> None:
    needs("haproxy", "haproxy")
    for text in haproxy_configurations():
        (tmp_path / "haproxy.cfg").write_text(text)
        assert_accepted(["haproxy", "-c", "-dW", "-f", str(tmp_path / "haproxy.cfg")])


def test_nginx_accepts_what_is_documented(tmp_path: Path) -> None:
    needs("nginx", "nginx-light")
    for text in nginx_configurations(free_port()):
        (tmp_path / "nginx.conf").write_text(text)
        assert_accepted(["nginx", "-t", "-p", str(tmp_path), "-e", "stderr", "-c", str(tmp_path / "nginx.conf")])


@pytest.mark.parametrize("hosts", ["haproxy"], indirect=True)
def test_a_host_that_haproxy_was_told_to_spare_is_stopped_without_any_loss(hosts: Hosts, tmp_path: Path) -> None:
    def spared_and_stopped() -> None:
        order(tmp_path, "set server http/one state drain")
        wait_until(lambda: order(tmp_path, "show servers conn http").splitlines()[1].split()[6] == "0", "it is spared")
        hosts.stop()
        order(tmp_path, "set server http/one state ready")

    with hosts.asked() as clients:
        assert not hosts.toll(clients, "spared", spared_and_stopped).lost


def assert_accepted(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def order(directory: Path, command: str) -> str:
    """What HAProxy answers to a command (its Management Guide, section 9.3)."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(directory / "admin.sock"))
        sock.sendall(f"{command}\n".encode())
        return sock.makefile().read()


def assert_nothing_is_lost(toll: Toll) -> None:
    assert not toll.lost, toll


def assert_no_unsafe_request_was_repeated(hosts: Hosts) -> None:
    assert not [token for token, times in hosts.seen().items() if times > 1 and token.startswith("POST")]

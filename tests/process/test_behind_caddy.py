"""Two hosts behind Debian's Caddy, by the configuration of docs/behind-a-proxy.md: what a host's end costs."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.documented import caddy_configuration
from tests.support.neighbours import needs, neighbour
from tests.support.ports import accepts, free_port
from tests.support.proxied import APPLICATION, CLIENTS, NAMES, Hosts
from tests.support.service import Service

pytestmark = pytest.mark.engine_independent

AWAY = 300
"""Requests that the other host answers before the first one is started again: some seconds."""


@pytest.fixture
def hosts(make_service: Callable[..., Service], tmp_path: Path) -> Iterator[Hosts]:
    needs("caddy", "caddy")
    one = make_service(threads=8, timeouts={"announce": "3s"})
    # Another address with the same ports, as hosts have.
    elsewhere = {"listen": [f"127.0.0.2:{one.port}"], "metrics": f"127.0.0.2:{one.metrics_port}"}
    two = make_service(threads=8, **elsewhere)
    for service, name in zip((one, two), NAMES, strict=True):
        service.deploy(name, APPLICATION)
        service.start()
    text, port = caddy_configuration(), free_port()
    for documented, here in (
        ("shop.example {", f"http://:{port} {{"),
        ("10.0.0.11:8000", f"127.0.0.1:{one.port}"),
        ("10.0.0.12:8000", f"127.0.0.2:{one.port}"),
        ("health_port 8001", f"health_port {one.metrics_port}"),
    ):
        assert text.count(documented) == 1
        text = text.replace(documented, here)
    configuration = tmp_path / "Caddyfile"
    configuration.write_text(f"{{\n\tadmin off\n\tauto_https off\n}}\n{text}")
    command = ["caddy", "run", "--config", str(configuration), "--adapter", "caddyfile"]
    with neighbour(["env", f"HOME={tmp_path}", *command], lambda: accepts(port)):
        yield Hosts((one, two), port)


def test_a_host_that_is_stopped_or_restarted_loses_nothing(hosts: Hosts) -> None:
    with hosts.asked() as clients:
        assert not hosts.toll(clients, "stopped", hosts.stop, AWAY).lost
        assert not hosts.toll(clients, "restarted", hosts.stop).lost
    assert not [token for token, times in hosts.seen().items() if times > 1 and token.startswith("POST")]


def test_a_host_that_is_killed_loses_what_it_had_and_may_not_be_repeated(hosts: Hosts) -> None:
    with hosts.asked() as clients:
        toll = hosts.toll(clients, "killed", hosts.kill, AWAY)
        assert {each.request.method for each in toll.lost} <= {"POST"}, toll
        # One of each client that posts: the first failure takes the host out.
        assert len(toll.lost) <= CLIENTS / 2, toll
    assert not [token for token, times in hosts.seen().items() if times > 1 and token.startswith("POST")]

"""scheduling: round_robin: the master accepts, and deals in turn to those that can take a connection."""

import json
import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.process.test_shortages import titles
from tests.support.clients import REQUEST, answer, asking, slot_of
from tests.support.service import PATIENCE_SECONDS, Service, wait_until

MakeService = Callable[..., Service]


@pytest.mark.parametrize("threads", [0, 4])
def test_every_worker_gets_its_turn(make_service: MakeService, clients: ExitStack, threads: int) -> None:
    service = make_service(scheduling="round_robin", workers=4, threads=threads).start()
    slots = [slot_of(answer(client)) for client in asking(service, clients, 40)]
    assert slots == slots[:4] * 10
    assert set(slots) == {1, 2, 3, 4}
    counted = [line for line in service.metrics().text.splitlines() if "accepted_total{" in line]
    assert [float(line.split()[-1]) for line in counted] == [10.0] * 4


# ---- what is used up


@contextmanager
def no_descriptors(pid: int) -> Iterator[None]:
    """A process that may open nothing more; what it has open stays."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_without_descriptors_the_master_lets_connections_wait(make_service: MakeService, clients: ExitStack) -> None:
    service = make_service(scheduling="round_robin").start()
    # The spare comes a moment after the workers; from then on nothing needs a descriptor.
    wait_until(lambda: "spare" in titles(service.pid), "there is a spare template")
    with no_descriptors(service.pid):
        made = asking(service, clients, 5)
        service.wait_for_line("cannot accept connections: Too many open files")
        used = processor_seconds(service.pid)
        with pytest.raises(TimeoutError):
            made[0].settimeout(1.0)
            made[0].recv(1)
        assert processor_seconds(service.pid) - used < 0.5
    made[0].settimeout(PATIENCE_SECONDS)
    assert len([answer(client) for client in made]) == 5


def test_a_worker_without_descriptors_leaves_its_connections_to_another(
    make_service: MakeService, clients: ExitStack
) -> None:
    service = make_service(scheduling="round_robin", threads=0).start()
    assert {slot_of(answer(client)) for client in asking(service, clients, 2)} == {1, 2}
    (pid,) = (worker["pid"] for worker in service.workers() if worker["slot"] == 1)
    with no_descriptors(pid):
        assert {slot_of(answer(client)) for client in asking(service, clients, 6)} == {2}
    wait_until(lambda: slot_of(service.get().text) == 1, "it is in the turn again")
    assert {worker["generation"] for worker in service.workers()} == {1}
    assert "worker ended" not in service.log()


def test_a_full_worker_is_passed_over(make_service: MakeService, clients: ExitStack) -> None:
    service = make_service(scheduling="round_robin", limits={"connections": 2}).start()
    kept = asking(service, clients, 4)
    slots = [slot_of(answer(client)) for client in kept]
    # Two of one worker end, and whatever comes now is for it.
    for client, slot in zip(kept, slots, strict=True):
        if slot == 2:
            client.close()
    wait_until(lambda: [worker["connections"] for worker in service.workers()] == [2, 0], "there is room")
    assert [slot_of(answer(client)) for client in asking(service, clients, 2)] == [2, 2]


# ---- what travels along

TELLS = """
import json, os
def app(environ, start_response):
    names = ("REMOTE_ADDR", "REMOTE_PORT", "SERVER_PORT", "wsgi.url_scheme")
    body = json.dumps([str(environ.get(name, "")) for name in names]).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_both_addresses_reach_the_worker(make_service: MakeService, clients: ExitStack, host: str) -> None:
    service = make_service(scheduling="round_robin")
    service.deploy("1", TELLS)
    service.configure(listen=[f"{host}:{service.port}"])
    service.start()
    (client,) = asking(service, clients, 1)
    address, port = client.getsockname()
    assert json.loads(answer(client)) == [address, str(port), str(service.port), "http"]


@pytest.mark.parametrize("where", ["tcp", "unix"])
def test_the_proxy_protocol_is_spoken_behind_the_master(
    make_service: MakeService, clients: ExitStack, where: str
) -> None:
    service = make_service(scheduling="round_robin", proxy_protocol="on", trusted_proxies=["127.0.0.1", "unix"])
    service.deploy("1", TELLS)
    unix = service.directory / "http.sock"
    if where == "unix":
        service.configure(listen=[f"unix:{unix}"])
    service.start()
    for _ in range(4):
        client = clients.enter_context(socket.socket(socket.AF_UNIX if where == "unix" else socket.AF_INET))
        client.settimeout(PATIENCE_SECONDS)
        client.connect(str(unix) if where == "unix" else ("127.0.0.1", service.port))
        client.sendall(b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\r\n" + REQUEST)
        assert json.loads(answer(client)) == ["192.0.2.1", "4711", "443", "http"]

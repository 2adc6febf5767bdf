"""Stops: with the sockets, no client is reset and later ones are refused; without, clients wait for the next start."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.machines.asking import ask, start_asking
from tests.support.machines.crowd import crowd
from tests.support.machines.deployment import CONFIG, WAITS, configure, deploy, start
from tests.support.machines.machine import Machine, Process
from tests.support.machines.reliability import crowds, record
from tests.support.service import wait_until

SOCKET, SERVICE = "clusterd.socket", "clusterd.service"
REFUSED = {"ConnectionRefusedError on a new connection"}


def start_waiting(machine: Machine) -> None:
    """A running service whose drain outlasts what a test does meanwhile."""
    deploy(machine, "one", WAITS)
    configure(machine, CONFIG.replace("drain: 10s", "drain: 60s"))
    machine.systemctl("restart", "clusterd.service")


def _stacks(machine: Machine, slot: int) -> str:
    return machine.run("clusterctl", "stacks", str(slot)).stdout


@contextmanager
def waiting_request(machine: Machine) -> Iterator[Process]:
    """A request that is not answered before there is a file /srv/app/release."""
    asking = start_asking(machine, "http://127.0.0.1:8000/wait")
    try:
        wait_until(lambda: any("/wait" in _stacks(machine, slot) for slot in (1, 2)), "it is under way")
        yield asking
    finally:
        asking.kill()
        asking.communicate()


@pytest.mark.operate
@pytest.mark.parametrize("scheduling", ["least_connections", "round_robin"])
@pytest.mark.parametrize("units", [(SOCKET, SERVICE), (SERVICE, SOCKET)])
def test_a_stop_of_both_under_load_resets_nobody(machine: Machine, units: tuple[str, str], scheduling: str) -> None:
    start(machine, settings=f"scheduling: {scheduling}\n")
    with crowds(machine, "--think", "0.002") as seen:
        machine.systemctl("stop", *units)
        assert machine.property(SERVICE, "ActiveState") == "inactive"
        assert machine.property(SERVICE, "Result") == "success"
    assert seen.lost == 0, seen.troubles
    assert seen.refused > 0
    record(machine, f"`systemctl stop {' '.join(units)}`, scheduling: {scheduling}", seen)
    assert {machine.property(unit, "ActiveState") for unit in (SOCKET, "clusterd-metrics.socket")} == {"inactive"}
    assert machine.processes("clusterd") == []
    assert not list((machine.root / "run/clusterd").iterdir())
    machine.systemctl("start", SOCKET)
    assert ask(machine).status == 200


@pytest.mark.operate
def test_a_stop_of_the_service_alone_under_load_loses_nothing(machine: Machine) -> None:
    """Clients wait in the sockets, and the first of them starts the service again."""
    start(machine)
    first = machine.property(SERVICE, "InvocationID")
    with crowds(machine, "--think", "0.002") as seen:
        machine.systemctl("stop", SERVICE)
        wait_until(lambda: machine.property(SERVICE, "ActiveState") == "active", "it was started again")
    assert machine.property(SERVICE, "InvocationID") != first
    assert not seen.troubles
    record(machine, "`systemctl stop clusterd.service` alone: the next client starts it again", seen)


@pytest.mark.parametrize("units", [(SOCKET, SERVICE), (SERVICE, SOCKET)])
def test_a_long_request_is_answered_and_new_clients_are_refused_meanwhile(
    machine: Machine, units: tuple[str, str]
) -> None:
    start_waiting(machine)
    with waiting_request(machine) as waiting:
        stopping = machine.start("systemctl", "stop", *units)
        machine.wait_for_journal("new clients are refused: 127.0.0.1:8000", "-u", SERVICE)
        with crowd(machine, "--connection", "fresh") as late:
            pass
        assert late.result.lost.keys() == REFUSED
        assert late.result.answered == 0
        machine.write("/srv/app/release", "")
        assert waiting.communicate(timeout=60)[0].startswith("200\n")
        output, errors = stopping.communicate(timeout=60)
        assert stopping.returncode == 0, output + errors
    assert machine.property(SERVICE, "Result") == "success"


def test_a_socket_that_is_stopped_during_a_drain_refuses_new_clients_from_then_on(machine: Machine) -> None:
    start_waiting(machine)
    with waiting_request(machine) as waiting:
        stopping = machine.start("systemctl", "stop", SERVICE)
        machine.wait_for_journal("worker draining", "-u", SERVICE)
        machine.systemctl("stop", "--no-block", SOCKET)
        machine.wait_for_journal("new clients are refused: 127.0.0.1:8000", "-u", SERVICE)
        assert ask(machine).status == 0
        machine.write("/srv/app/release", "")
        assert waiting.communicate(timeout=60)[0].startswith("200\n")
        stopping.communicate(timeout=60)
        assert stopping.returncode == 0


def test_new_clients_are_refused_when_the_host_goes_down(machine: Machine) -> None:
    start_waiting(machine)
    with waiting_request(machine):
        machine.systemctl("--no-block", "poweroff")
        wait_until(lambda: ask(machine).status == 0, "new clients are refused")

"""Socket units that fail, are missing or are ruled out: no other address is taken in their place."""

from pathlib import Path

import pytest

from tests.support.machines.asking import ask, ask_unix
from tests.support.machines.deployment import CONFIG, configure, deploy
from tests.support.machines.machine import Machine
from tests.support.machines.packages import incompatible
from tests.support.service import wait_until
from tests.system.conftest import install

MINIMAL = "app: application:app\ndirectory: /srv/app/current\nworkers: 1\n"
OWN = 'listen: ["127.0.0.1:9000"]\n'
UNITS = "/usr/lib/systemd/system"

# Answers nothing: whoever is connected has reached it.
TAKER = (
    "import socket, time; s = socket.create_server(('127.0.0.1', {port})); print('taken', flush=True); time.sleep(600)"
)


def take(machine: Machine, port: int) -> None:
    """Another service that listens there."""
    machine.systemctl("stop", "clusterd.socket", "clusterd.service")
    machine.run("systemd-run", "--unit=taker", "/usr/bin/python3", "-c", TAKER.format(port=port))
    machine.wait_for_journal("^taken$", "--unit=taker.service")


@pytest.mark.parametrize(("port", "unit"), [(8000, "clusterd.socket"), (8001, "clusterd-metrics.socket")])
def test_a_service_whose_port_is_taken_says_so_and_comes_when_it_is_free(
    machine: Machine, port: int, unit: str
) -> None:
    deploy(machine, "one")
    # With the addresses, as in the file that came with earlier packages.
    configure(machine, CONFIG + 'listen: ["127.0.0.1:8000"]\nmetrics: "127.0.0.1:8001"\n')
    take(machine, port)
    failed = machine.run("systemctl", "start", "clusterd.service", check=False)
    assert failed.returncode != 0
    machine.wait_for_journal(f"{unit} has passed no socket.*systemctl status {unit}", "--unit=clusterd.service")
    assert machine.processes("clusterd: worker") == []
    machine.systemctl("stop", "taker.service")
    machine.systemctl("reset-failed")
    machine.systemctl("start", "clusterd.service")
    assert ask(machine).status == 200
    assert ask(machine, "http://127.0.0.1:8001/readyz").status == 200


def test_an_instance_is_started_with_its_socket_unit(machine: Machine) -> None:
    deploy(machine, "shop")
    configure(machine, MINIMAL, "shop")
    machine.systemctl("stop", "clusterd.socket")
    machine.systemctl("start", "clusterd@shop.service")
    assert machine.property("clusterd@shop.socket", "ActiveState") == "active"
    assert ask_unix(machine, "/run/clusterd-shop.http.sock").text.startswith("shop ")
    assert ask(machine).status == 0


@pytest.mark.parametrize("units", [("service", "socket"), ("socket", "service")])
def test_a_stop_of_an_instance_with_its_unix_socket_leaves_systemd_at_work(
    machine: Machine, units: tuple[str, str]
) -> None:
    """A listening Unix socket that is shut down is readable for ever: systemd 252 did nothing else any more."""
    deploy(machine, "shop")
    configure(machine, MINIMAL, "shop")
    machine.systemctl("start", "clusterd@shop.service")
    assert ask_unix(machine, "/run/clusterd-shop.http.sock").text.startswith("shop ")
    machine.systemctl("stop", *(f"clusterd@shop.{unit}" for unit in units))
    assert machine.property("clusterd@shop.socket", "ActiveState") == "inactive"
    machine.run("systemd-run", "--wait", "true")


def test_an_instance_without_its_socket_unit_fails_unless_its_file_names_an_address(machine: Machine) -> None:
    deploy(machine, "shop")
    configure(machine, MINIMAL, "shop")
    machine.run("mkdir", "/run/clusterd-shop.http.sock")  # in the way
    machine.systemctl("stop", "clusterd.socket")
    assert machine.run("systemctl", "start", "clusterd@shop.service", check=False).returncode != 0
    machine.wait_for_journal("systemctl status clusterd@shop.socket", "--unit=clusterd@shop.service")
    assert ask(machine).status == 0
    configure(machine, MINIMAL + OWN, "shop")
    machine.systemctl("restart", "clusterd@shop.service")
    assert ask(machine, "http://127.0.0.1:9000/").status == 200


def test_what_an_administrator_masks_is_not_expected(machine: Machine) -> None:
    deploy(machine, "one")
    configure(machine, CONFIG + OWN)
    machine.systemctl("stop", "clusterd.socket", "clusterd.service")
    machine.systemctl("mask", "clusterd.socket")
    machine.systemctl("start", "clusterd.service")
    assert ask(machine, "http://127.0.0.1:9000/").status == 200
    assert ask(machine).status == 0


def test_an_instance_with_an_address_of_its_own_keeps_it_over_an_upgrade(
    machine: Machine, package: Path, tmp_path: Path
) -> None:
    deploy(machine, "alone")
    configure(machine, MINIMAL + OWN, "alone")
    _with_old_unit(machine)
    machine.systemctl("start", "clusterd@alone.service")
    assert machine.property("clusterd@alone.socket", "ActiveState") == "inactive"
    first = ask(machine, "http://127.0.0.1:9000/")
    assert first.status == 200
    install(machine, incompatible(package, tmp_path))  # As of a version that knows no upgrade in place: it restarts.
    wait_until(lambda: machine.property("clusterd@alone.service", "ActiveState") == "active", "it runs again")
    second = ask(machine, "http://127.0.0.1:9000/")
    assert second.status == 200
    assert second.text != first.text
    assert ask_unix(machine, "/run/clusterd-alone.http.sock").status == 200


def _with_old_unit(machine: Machine) -> None:
    """The instances' unit as it was before it named its socket unit."""
    path = f"{UNITS}/clusterd@.service"
    lines = machine.read(path).splitlines(keepends=True)
    machine.write(
        path, "".join(line for line in lines if not line.startswith(("Sockets=", "Environment=CLUSTERD_SOCK")))
    )
    machine.systemctl("daemon-reload")

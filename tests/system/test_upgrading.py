"""Upgrading the package: what apt does to a running service, what it says, and how it ends."""

import re
import time
from pathlib import Path

import pytest

from tests.support.machines.asking import ask, ask_unix
from tests.support.machines.crowd import crowd
from tests.support.machines.deployment import CURRENT, GOOD, HANGS_AT_IMPORT, IMPORT_FAILS, configure, deploy, start
from tests.support.machines.machine import Completed, Machine
from tests.support.machines.packages import field, incompatible, newer, repacked, suffix
from tests.support.machines.reliability import Seen, record
from tests.support.service import wait_until

PATIENCE_SECONDS = 90
_RAN_AGAIN = "clusterd: running: clusterd.service"
_IN_PLACE = "clusterd: upgraded clusterd.service in place: clusterd "


@pytest.fixture(scope="session")
def upgrade_package(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package in its next version."""
    return newer(package, tmp_path_factory.mktemp("upgrade"))


@pytest.fixture(scope="session")
def incompatible_package(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package in its next version, whose master cannot go on in place of this one's."""
    return incompatible(package, tmp_path_factory.mktemp("incompatible"))


def upgrade(machine: Machine, package: Path, *options: str) -> Completed:
    """Upgrade by apt, as an operator or unattended-upgrades does; waits longer than apt may. stdout has all it says.

    dpkg has no terminal of apt's, which does not read the rest of it once dpkg has ended: on a busy machine the last
    lines are missing.
    """
    inside = f"/root/{package.name}"
    (machine.root / inside.lstrip("/")).write_bytes(package.read_bytes())
    said_together = 'exec apt-get install --yes -o Dpkg::Use-Pty=0 "$@" 2>&1'
    return machine.run("sh", "-c", said_together, "sh", *options, inside, check=False, timeout=2 * PATIENCE_SECONDS)


def installed(machine: Machine) -> str:
    """The state and the version that dpkg has of it."""
    return machine.run("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", "clusterd").stdout


@pytest.mark.operate
def test_an_upgrade_under_load_is_in_place_and_loses_nothing(
    machine: Machine, package: Path, upgrade_package: Path
) -> None:
    start(machine)
    before = machine.property("clusterd.service", "MainPID")
    with crowd(machine, "--connection", "fresh", "--clients", "8") as seen:
        done = upgrade(machine, upgrade_package)
    assert done.returncode == 0, done.stdout
    assert _IN_PLACE in done.stdout
    assert "restarting" not in done.stdout
    assert machine.property("clusterd.service", "MainPID") == before
    assert seen.result.lost == {}
    record(machine, "an upgrade of the package (8 clients)", Seen((seen,)))
    assert seen.result.statuses.keys() == {"200"}
    assert installed(machine) == f"installed {upgrade_package.name.split('_')[1]}"
    # And back.
    with crowd(machine, "--connection", "fresh", "--clients", "8") as seen:
        done = upgrade(machine, package, "--allow-downgrades")
    assert _IN_PLACE in done.stdout, done.stdout
    assert machine.property("clusterd.service", "MainPID") == before
    assert seen.result.lost == {}


@pytest.mark.operate
def test_an_upgrade_that_is_impossible_in_place_restarts_and_loses_nothing(
    machine: Machine, incompatible_package: Path
) -> None:
    start(machine)
    before = machine.property("clusterd.service", "MainPID")
    with crowd(machine, "--connection", "fresh", "--clients", "8") as seen:
        done = upgrade(machine, incompatible_package)
    assert done.returncode == 0, done.stdout
    assert "clusterd: clusterd.service cannot be upgraded in place: nothing has changed: clusterd " in done.stdout
    assert "clusterd: restarting clusterd.service; connections wait in the sockets that systemd holds" in done.stdout
    assert _RAN_AGAIN in done.stdout
    assert machine.property("clusterd.service", "MainPID") not in (before, "0")
    assert seen.result.lost == {}
    record(machine, "an upgrade of the package that restarts (8 clients)", Seen((seen,)))
    assert seen.result.statuses.keys() == {"200"}
    assert installed(machine) == f"installed {incompatible_package.name.split('_')[1]}"


def test_an_application_that_does_not_start_leaves_the_workers_of_before(
    machine: Machine, upgrade_package: Path
) -> None:
    start(machine)
    deploy(machine, "broken", IMPORT_FAILS)
    done = upgrade(machine, upgrade_package)
    assert done.returncode == 0, done.stdout
    said = "clusterd: upgraded clusterd.service in place; the workers of before serve on: clusterd "
    assert said in done.stdout
    assert "No module named 'a_module_that_is_not_there'" in done.stdout
    assert installed(machine).startswith("installed ")
    assert ask(machine).text.startswith("one ")


def test_an_upgrade_is_of_instances_and_of_the_relay_of_their_metrics_too(
    machine: Machine, upgrade_package: Path
) -> None:
    machine.run("sh", "-c", "cp /usr/share/clusterd/examples/instances/*.yaml /etc/clusterd/")
    machine.systemctl("enable", "--now", "clusterd@shop.socket")
    assert ask_unix(machine, "/run/clusterd-shop.http.sock").status == 200
    assert ask(machine, "http://127.0.0.1:8002/instances/shop/healthz").status == 200
    units = ("clusterd@shop.service", "clusterd-instances.service")
    wait_until(lambda: machine.property(units[0], "ActiveState") == "active", "the shop is ready")
    before = {unit: machine.property(unit, "MainPID") for unit in units}
    done = upgrade(machine, upgrade_package)
    assert done.returncode == 0, done.stdout
    assert "clusterd: upgraded clusterd@shop.service in place: clusterd " in done.stdout
    assert machine.property(units[0], "MainPID") == before[units[0]]
    assert "clusterd: restarting clusterd-instances.service" in done.stdout
    assert machine.property(units[1], "MainPID") not in (before[units[1]], "0")
    assert machine.property("clusterd.service", "ActiveState") == "inactive"
    assert ask(machine, "http://127.0.0.1:8002/instances/shop/readyz").status == 200


def test_an_application_that_does_not_start_fails_the_upgrade_which_says_so(
    machine: Machine, incompatible_package: Path
) -> None:
    start(machine)
    deploy(machine, "broken", IMPORT_FAILS)
    done = upgrade(machine, incompatible_package)
    assert done.returncode == 100, done.stdout
    assert re.search(r"clusterd: clusterd\.service does not run after the upgrade: it is \w+", done.stdout), done.stdout
    assert "No module named 'a_module_that_is_not_there'" in done.stdout
    assert "clusterd: to see why: journalctl -u clusterd.service" in done.stdout
    assert installed(machine).startswith("half-configured ")
    # It is tried again by whatever configures packages, and says so again.
    again = machine.run("dpkg", "--configure", "--pending", check=False)
    assert again.returncode != 0
    assert "clusterd.service does not run" in again.stderr
    # Mended, the same command starts it; nothing else is needed.
    deploy(machine, "fixed")
    machine.run("dpkg", "--configure", "clusterd")
    assert installed(machine).startswith("installed ")
    assert machine.property("clusterd.service", "ActiveState") == "active"
    assert ask(machine).text.startswith("fixed ")


def test_an_operator_may_leave_down_what_an_upgrade_could_not_start(
    machine: Machine, incompatible_package: Path
) -> None:
    start(machine)
    deploy(machine, "broken", IMPORT_FAILS)
    assert upgrade(machine, incompatible_package).returncode == 100
    machine.systemctl("stop", "clusterd.socket", "clusterd.service")
    machine.systemctl("reset-failed", "clusterd.service")
    machine.run("dpkg", "--configure", "clusterd")
    assert installed(machine).startswith("installed ")
    assert machine.property("clusterd.service", "ActiveState") == "inactive"


def test_an_upgrade_waits_ninety_seconds_at_most(machine: Machine, incompatible_package: Path) -> None:
    start(machine)
    deploy(machine, "hangs", HANGS_AT_IMPORT)
    configure(machine, f"app: application:app\ndirectory: {CURRENT}\nworkers: 1\nrollout: {{boot_timeout: 10m}}\n")
    begun = time.monotonic()
    done = upgrade(machine, incompatible_package)
    took = time.monotonic() - begun
    assert done.returncode == 100, done.stdout
    assert "clusterd.service does not run after the upgrade: it is activating" in done.stdout
    # Beside the wait there are unpacking and the end of the old workers.
    assert PATIENCE_SECONDS <= took < PATIENCE_SECONDS + 60


def test_an_upgrade_after_ten_restarts_is_like_any_other(machine: Machine, upgrade_package: Path) -> None:
    start(machine)
    for _ in range(10):
        machine.systemctl("restart", "clusterd.service")
    done = upgrade(machine, upgrade_package)
    assert done.returncode == 0, done.stdout
    assert _IN_PLACE in done.stdout
    assert ask(machine).text.startswith("one ")


def test_an_upgrade_during_a_reload_waits_for_it(machine: Machine, upgrade_package: Path) -> None:
    start(machine)
    before = machine.property("clusterd.service", "MainPID")
    deploy(machine, "slow", f"import time\ntime.sleep(8)\n{GOOD}")
    machine.systemctl("reload", "--no-block", "clusterd.service")
    wait_until(lambda: machine.property("clusterd.service", "ActiveState") == "reloading", "the reload")
    done = upgrade(machine, upgrade_package)
    assert done.returncode == 0, done.stdout
    assert _IN_PLACE in done.stdout
    assert machine.property("clusterd.service", "MainPID") == before
    assert ask(machine).text.startswith("slow ")


def test_what_is_stopped_stays_so_and_nothing_is_said_of_it(machine: Machine, upgrade_package: Path) -> None:
    done = upgrade(machine, upgrade_package)
    assert done.returncode == 0
    assert "restarting" not in done.stdout
    assert machine.property("clusterd.service", "ActiveState") == "inactive"


def test_the_package_of_another_debian_says_that_it_runs_slower(
    bare_machine: Machine, package: Path, tmp_path: Path
) -> None:
    other = repacked(package, tmp_path, field(package, "Version").partition("~")[0] + "~deb99", "cpython-399")
    inside = bare_machine.root / "root" / other.name
    inside.write_bytes(other.read_bytes())
    done = bare_machine.run("dpkg", "--install", f"/root/{other.name}")
    assert "~deb99 is compiled for another Debian: here the engine runs interpreted" in done.stderr
    assert f"whose version ends with {suffix(bare_machine)}" in done.stderr
    version = bare_machine.run("clusterd", "--version").stdout
    assert "interpreted" in version
    assert "it was compiled for cpython-399" in version
    assert ask(bare_machine).status == 200

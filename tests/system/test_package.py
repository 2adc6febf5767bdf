"""The package: what installing, starting, upgrading and removing it does."""

import re
import stat
from pathlib import Path

from tests.support.machines.asking import ask
from tests.support.machines.crowd import crowd
from tests.support.machines.deployment import start
from tests.support.machines.machine import Machine
from tests.support.service import wait_until
from tests.system.conftest import install

RELOADS = (
    *("clusterd-reload.path", "clusterd-reload.service"),
    *("clusterd-reload@a.path", "clusterd-reload@a.service"),
)
SOCKETS = ("clusterd.socket", "clusterd-metrics.socket")
SOURCE = Path(__file__).parents[2]


def test_the_sockets_are_enabled_and_the_service_waits_for_its_first_connection(machine: Machine) -> None:
    for unit in SOCKETS:
        assert machine.property(unit, "UnitFileState") == "enabled"
        assert machine.property(unit, "ActiveState") == "active"
    assert machine.property("clusterd.service", "ActiveState") == "inactive"
    assert ask(machine).status == 200
    # The first worker answers; the service is active when all are ready.
    wait_until(lambda: machine.property("clusterd.service", "ActiveState") == "active", "the service is active")


def test_start_serves_the_example_at_once(machine: Machine) -> None:
    machine.systemctl("start", "clusterd")
    answer = ask(machine)
    assert (answer.status, answer.text[:20]) == (200, "Hello from clusterd:")
    assert machine.systemctl("is-system-running").strip() == "running"


def test_runs_as_its_own_user_with_a_control_socket_for_its_group(machine: Machine) -> None:
    machine.systemctl("start", "clusterd")
    user = machine.run("id", "--user", "clusterd").stdout.strip()
    assert int(user) > 0
    main = machine.property("clusterd.service", "MainPID")
    assert machine.read(f"/proc/{main}/status").partition("Uid:")[2].split()[:4] == [user] * 4
    control = (machine.root / "run/clusterd/control.sock").stat()
    assert (str(control.st_uid), stat.S_IMODE(control.st_mode)) == (user, 0o660)
    directory = (machine.root / "run/clusterd").stat()
    assert stat.S_IMODE(directory.st_mode) == 0o750


def test_the_engine_is_compiled_for_this_debian(machine: Machine) -> None:
    assert "(the engine runs compiled under" in machine.run("clusterd", "--version").stdout


def test_it_serves_on_where_the_engine_was_compiled_for_another_python(machine: Machine) -> None:
    """As after an upgrade of Debian: slower, not removed, and the log says why."""
    for library in (machine.root / "usr/lib/clusterd").rglob("*.so"):
        before, _, after = library.name.partition(".cpython-")
        library.rename(library.with_name(f"{before}.cpython-399{after[3:]}"))
    machine.systemctl("start", "clusterd")
    assert ask(machine).status == 200
    assert "(the engine runs interpreted under" in machine.run("clusterd", "--version").stdout
    machine.wait_for_journal("the engine runs interpreted under .* it was compiled for cpython-399-", "-u", "clusterd")


def test_the_program_is_compiled_by_the_installation(machine: Machine) -> None:
    """Or each start would compile all of it: the service may not write there."""
    modules = machine.run("find", "/usr/lib/clusterd/clusterd", "-name", "*.py").stdout.split()
    compiled = machine.run("find", "/usr/lib/clusterd/clusterd", "-name", "*.pyc").stdout.split()
    assert len(compiled) == len(modules) > 100


def test_systemd_finds_nothing_wrong_with_the_units(machine: Machine) -> None:
    services = ("clusterd.service", "clusterd@a.service", "clusterd-tmp.service", "clusterd-tmp@a.service")
    units = (*SOCKETS, "clusterd-https.socket", "clusterd-agent.socket", *services, "clusterd@a.socket", *RELOADS)
    # Manual pages are not looked at: a minimal Debian excludes them, and has no man to ask.
    verified = machine.run("systemd-analyze", "verify", "--man=no", *units)
    assert verified.stdout + verified.stderr == ""


def test_the_units_are_as_closed_as_the_documentation_says(machine: Machine) -> None:
    for unit, most in (("clusterd.service", 18), ("clusterd@a.service", 20), ("clusterd-instances.service", 20)):
        # It fails above the threshold, which is ten times the figure that it shows.
        machine.run("systemd-analyze", "security", "--no-pager", f"--threshold={most}", unit)


def test_contains_manual_pages_examples_and_configuration(machine: Machine) -> None:
    files = machine.run("dpkg", "--listfiles", "clusterd").stdout.splitlines()
    assert "/usr/share/man/man8/clusterd.8.gz" in files
    assert "/usr/share/man/man1/clusterctl.1.gz" in files
    assert "/usr/share/man/man5/clusterd.yaml.5.gz" in files
    assert "/usr/share/clusterd/examples/hello/hello.py" in files
    assert "/usr/share/clusterd/examples/instances/shop.yaml" in files
    assert "/usr/share/clusterd/examples/messages/tasks.py" in files
    assert "/etc/clusterd/clusterd.yaml" in machine.read("/var/lib/dpkg/info/clusterd.conffiles").splitlines()
    assert not [path for path in files if "__pycache__" in path]


def test_to_install_it_again_upgrades_what_runs_and_refuses_nobody(machine: Machine, package: Path) -> None:
    start(machine)
    before = machine.property("clusterd.service", "MainPID")
    with crowd(machine, "--connection", "fresh", "--clients", "4") as seen:
        install(machine, package)
    assert machine.property("clusterd.service", "MainPID") == before
    assert "generation 2" in machine.run("clusterctl", "status").stdout
    assert seen.result.lost == {}


def test_an_upgrade_does_not_start_what_is_stopped(machine: Machine, package: Path) -> None:
    install(machine, package)
    assert machine.property("clusterd.service", "ActiveState") == "inactive"
    assert machine.property("clusterd.socket", "ActiveState") == "active"


def test_removing_it_stops_everything(machine: Machine) -> None:
    machine.systemctl("start", "clusterd")
    machine.run("clusterd", "--check")  # As root, whose Python writes what it has compiled.
    said = machine.run("dpkg", "--purge", "clusterd")
    assert "not empty" not in said.stdout + said.stderr
    assert machine.processes("clusterd") == []
    for directory in ("etc/clusterd", "usr/lib/clusterd", "usr/share/clusterd", "run/clusterd"):
        assert not (machine.root / directory).exists(), directory
    assert ask(machine).status == 0
    assert machine.systemctl("is-system-running").strip() == "running"


def test_it_passes_its_own_tests(machine: Machine) -> None:
    """Those of debian/tests, as autopkgtest(1) runs them with the package installed."""
    control = (SOURCE / "debian/tests/control").read_text()
    (names,) = re.findall(r"(?m)^Tests: (.*)$", control)
    for name in names.split(", "):
        (machine.root / "root" / name).write_text((SOURCE / "debian/tests" / name).read_text())
        done = machine.run("sh", f"/root/{name}", check=False)
        assert done.returncode == 0, done.stdout + done.stderr

"""The master may die: systemd starts the next one, which goes on with templates, workers and connections."""

import json
import sys

import pytest

from tests.support.machines.deployment import GOOD, configure, deploy, start
from tests.support.machines.machine import Machine
from tests.support.machines.reliability import crowds, record
from tests.support.service import wait_until

pytestmark = pytest.mark.operate

SERVICE = "clusterd.service"

SPOOLS = GOOD.replace(
    "    body = ",
    """\
    import tempfile
    length = len(environ["wsgi.input"].read())
    with tempfile.NamedTemporaryFile() as file, open("/tmp/mine", "a"), open("/var/tmp/mine", "a"):
        file.write(b"x" * length)
    VERSION = str(length)
    body = """,
)
"""Its answer begins with the size of the request's body, which it has written to /tmp again."""

UPLOAD = """
import http.client, sys
client = http.client.HTTPConnection("127.0.0.1", 8000, timeout=60)
client.request("POST", "/", b"x" * (1 << 20))
answer = client.getresponse()
print(answer.status, answer.read().decode())
"""

STARTS = f"import subprocess\nsubprocess.Popen(['sleep', '601'])\n{GOOD}"
"""Its import starts a program that no process waits for."""

REMAINS = ("clusterd: master", "clusterd: worker", "clusterd: template", "clusterd: spare", "sleep 601")


def main_pid(machine: Machine) -> str:
    return machine.property(SERVICE, "MainPID")


def signal_master(machine: Machine, name: str) -> str:
    """Send the master a signal and return its pid."""
    pid = main_pid(machine)
    machine.run("sh", "-c", f"kill -{name} {pid}")
    return pid


def serves_anew(machine: Machine, before: str) -> bool:
    """Whether another master than `before` has told systemd that it serves."""
    return (
        machine.property(SERVICE, "SubState") == "running"
        and main_pid(machine) not in ("0", before)
        and machine.property(SERVICE, "StatusText").startswith("Serving")
    )


def kill_master(machine: Machine) -> None:
    """End it by SIGKILL and wait for the next one."""
    before = signal_master(machine, "KILL")
    wait_until(lambda: serves_anew(machine, before), "the next master serves")


def workers(machine: Machine) -> list[tuple[int, int, int]]:
    """Slot, pid and generation of each worker."""
    status = json.loads(machine.run("clusterctl", "--json", "status").stdout)
    return sorted((worker["slot"], worker["pid"], worker["generation"]) for worker in status["workers"])


def start_what_starts(machine: Machine) -> None:
    """A running service whose application has started a program at its import."""
    deploy(machine, "one", STARTS)
    configure(machine)
    machine.systemctl("restart", SERVICE)
    assert machine.processes("sleep 601")


def is_empty(machine: Machine) -> bool:
    """Whether no process of the service is left."""
    return not any(machine.processes(word) for word in REMAINS)


def drop_in(machine: Machine, text: str) -> None:
    machine.write(f"/etc/systemd/system/{SERVICE}.d/test.conf", text)
    machine.systemctl("daemon-reload")


def test_a_master_that_is_killed_costs_nothing(machine: Machine) -> None:
    start(machine)
    before = workers(machine)
    with crowds(machine, "--think", "0.002") as seen:
        kill_master(machine)
        assert workers(machine) == before
    assert not seen.troubles
    assert workers(machine) == before
    record(machine, "SIGKILL of the master: the next one goes on with its workers", seen)


def test_ten_kills_leave_the_workers_and_their_files(machine: Machine) -> None:
    """Also beyond systemd's default limit of starts, five in ten seconds."""
    start(machine)
    deploy(machine, "two", SPOOLS)
    machine.systemctl("reload", SERVICE)
    before = workers(machine)
    with crowds(machine) as seen:
        for _ in range(10):
            kill_master(machine)
    assert not seen.troubles
    assert workers(machine) == before
    upload = machine.start_in_network(sys.executable, "-I", "-c", UPLOAD)
    assert upload.communicate(timeout=90)[0].startswith(f"200 {1 << 20} ")
    assert machine.property(SERVICE, "NRestarts") == "10"
    assert machine.property(SERVICE, "Result") == "success"
    record(machine, "ten times SIGKILL of the master, and an upload of 1 MB", seen)


def test_kills_without_a_pause_do_not_end_the_service(machine: Machine) -> None:
    """Before the next master has told anything: what it has adopted is not lost."""
    drop_in(machine, "[Service]\nRestartSec=10ms\n")
    start(machine)
    before = workers(machine)
    with crowds(machine) as seen:
        for _ in range(20):
            pid = wait_until(lambda: pid if (pid := main_pid(machine)) != "0" else None, "a master")
            machine.run("sh", "-c", f"kill -KILL {pid}", check=False)
        wait_until(lambda: serves_anew(machine, pid), "the last master serves")
    assert not seen.troubles
    assert workers(machine) == before
    assert machine.property(SERVICE, "ActiveState") == "active"


def test_a_stop_empties_the_store_and_leaves_nothing(machine: Machine) -> None:
    start(machine)
    assert int(machine.property(SERVICE, "NFileDescriptorStore")) > 4
    kill_master(machine)
    machine.systemctl("stop", "clusterd.socket", SERVICE)
    assert machine.property(SERVICE, "NFileDescriptorStore") == "0"
    assert machine.property(SERVICE, "Result") == "success"
    assert is_empty(machine)
    assert machine.property("clusterd-tmp.service", "ActiveState") == "inactive"
    assert not list((machine.root / "run/clusterd").iterdir())


def test_a_stop_in_the_pause_before_a_restart_leaves_nothing(machine: Machine) -> None:
    """systemd runs no second ExecStopPost= then: the processes end because their channels end."""
    drop_in(machine, "[Service]\nRestartSec=60s\n")
    start_what_starts(machine)
    signal_master(machine, "KILL")
    wait_until(lambda: machine.property(SERVICE, "SubState") == "auto-restart", "systemd waits")
    assert not is_empty(machine)
    machine.systemctl("stop", "clusterd.socket", SERVICE)
    wait_until(lambda: is_empty(machine), "everything has ended")
    assert machine.property(SERVICE, "NFileDescriptorStore") == "0"


def test_a_service_that_may_not_start_again_leaves_nothing(machine: Machine) -> None:
    """An administrator may set a limit of starts."""
    drop_in(machine, "[Unit]\nStartLimitIntervalSec=600\nStartLimitBurst=2\n")
    start_what_starts(machine)
    kill_master(machine)
    signal_master(machine, "KILL")
    machine.wait_for_journal("Start request repeated too quickly", f"--unit={SERVICE}")
    wait_until(lambda: machine.property(SERVICE, "ActiveState") == "failed", "the limit is reached")
    wait_until(lambda: is_empty(machine), "everything has ended")


def test_a_stopped_master_is_ended_by_the_watchdog_and_replaced(machine: Machine) -> None:
    start(machine)
    before = workers(machine)
    with crowds(machine, "--timeout", "60") as seen:
        pid = signal_master(machine, "STOP")
        wait_until(lambda: serves_anew(machine, pid), "the watchdog has ended it, and the next master serves")
    assert not seen.troubles
    assert workers(machine) == before
    record(machine, "SIGSTOP of the master, which the watchdog ends", seen)

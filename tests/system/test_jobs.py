"""`run:` under systemd, as docs/messages.md says: in an instance, and in the main unit."""

import re
from pathlib import Path

from tests.support.machines.asking import ask
from tests.support.machines.deployment import configure, deploy
from tests.support.machines.machine import Machine

JOB = """\
from clusterd import worker


def main():
    print("working in", worker.id, flush=True)
    worker.stop_event.wait()
    print("done in", worker.id, flush=True)
"""
CONFIG = "run: application:main\ndirectory: /srv/app/current\nworkers: 2\n"
DOCUMENT = Path(__file__).parents[2] / "docs/messages.md"
METRICS = "http://127.0.0.1:8001/metrics"


def test_jobs_are_an_instance_of_their_own(machine: Machine) -> None:
    unit, socket = "clusterd@jobs.service", "clusterd@jobs.socket"
    deploy(machine, "one", JOB)
    configure(machine, CONFIG, "jobs")
    assert f"systemctl enable --now {unit}" in DOCUMENT.read_text()
    machine.systemctl("enable", "--now", unit)
    assert "Serving" in machine.property(unit, "StatusText")
    for slot in (1, 2):
        machine.wait_for_journal(f"working in {slot}", f"--unit={unit}")
    machine.wait_for_journal(f"systemctl mask --now {socket}", f"--unit={unit}")
    machine.systemctl("mask", "--now", socket)
    assert machine.property(unit, "ActiveState") == "active"
    machine.systemctl("restart", unit)
    assert machine.property(socket, "ActiveState") == "inactive"
    machine.systemctl("stop", unit)
    pid = machine.property(unit, "ExecMainPID")
    told = machine.journal(f"_PID={pid}")
    assert "clusterd@jobs.socket" not in told
    assert len(re.findall("^done in", machine.journal(f"--unit={unit}"), re.M)) == 4


def test_the_main_unit_runs_jobs_with_its_socket_masked(machine: Machine) -> None:
    unit = "clusterd.service"
    deploy(machine, "one", JOB)
    configure(machine, CONFIG)
    machine.systemctl("stop", "clusterd.socket", unit)
    assert machine.run("systemctl", "start", unit, check=False).returncode != 0
    told = machine.wait_for_journal("^run: ", f"--unit={unit}")
    assert "systemctl enable --now clusterd@NAME.service" in told
    assert "systemctl mask --now clusterd.socket;" in told
    machine.systemctl("stop", unit)
    [commands] = re.findall(
        r"^```sh\n(systemctl mask --now clusterd\.socket\n.*?)^```$", DOCUMENT.read_text(), re.M | re.S
    )
    for command in commands.splitlines():
        machine.run(*command.split())
    assert machine.property(unit, "ActiveState") == "active"
    assert machine.property("clusterd.socket", "ActiveState") == "inactive"
    assert 'clusterd_worker_up{worker="2"} 1' in ask(machine, METRICS).text
    assert ask(machine).status == 0
    machine.systemctl("reload", unit)
    assert "; reloaded at " in machine.property(unit, "StatusText")
    machine.systemctl("restart", unit)
    assert machine.property("clusterd.socket", "ActiveState") == "inactive"

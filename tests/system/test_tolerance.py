"""What an operator does beside clusterd, or does to all of its processes: no request fails of it."""

import json

import pytest

from tests.support.machines.asking import ask
from tests.support.machines.crowd import crowd
from tests.support.machines.deployment import GOOD, configure, deploy, start
from tests.support.machines.machine import Machine
from tests.support.machines.reliability import Seen, record
from tests.support.service import wait_until

JOURNAL_SOCKETS = ("systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald-audit.socket")

READY = "http://127.0.0.1:8001/readyz"

PRINTS = GOOD.replace(
    "    body = ",
    """\
    print("printed by", VERSION)
    print("said by", VERSION, file=environ["wsgi.errors"])
    body = """,
)


def _stop_journald(machine: Machine) -> None:
    """With its sockets, which would start it again."""
    machine.systemctl("stop", *JOURNAL_SOCKETS, "systemd-journald.service", check=False)


def _start_journald(machine: Machine) -> None:
    units = (*JOURNAL_SOCKETS[:2], "systemd-journald.service")
    machine.systemctl("reset-failed", *units, check=False)  # journald has a start limit
    machine.systemctl("start", *units)


def _is_printed(machine: Machine, version: str, since: str) -> bool:
    """Both streams, by the workers, in the journal of the unit."""
    text = machine.journal("--unit=clusterd.service", f"--since=@{since}", lines=10_000)
    return f"printed by {version}" in text and f"said by {version}" in text


def _now(machine: Machine) -> str:
    return machine.run("date", "+%s.%N").stdout.strip()


@pytest.mark.operate
def test_journald_may_go_and_come(machine: Machine) -> None:
    deploy(machine, "one", PRINTS)
    configure(machine)
    machine.systemctl("restart", "clusterd.service")
    with crowd(machine, "--clients", "20") as seen:
        machine.systemctl("restart", "systemd-journald.service")
        since = _now(machine)
        wait_until(lambda: _is_printed(machine, "one", since), "prints are in the journal after a restart")
        for _ in range(3):
            _stop_journald(machine)
            _start_journald(machine)
        since = _now(machine)
        wait_until(lambda: _is_printed(machine, "one", since), "prints are in the journal after a stop and a start")
        deploy(machine, "two", PRINTS)
        machine.systemctl("reload", "clusterd.service")
        wait_until(lambda: _is_printed(machine, "two", since), "prints are in the journal after a reload")
        _stop_journald(machine)
        deploy(machine, "three", PRINTS)
        machine.systemctl("reload", "clusterd.service")
        _start_journald(machine)
        wait_until(lambda: _is_printed(machine, "three", since), "prints of a reload without a journal")
    assert seen.result.lost == {}
    record(machine, "systemd-journald restarted, stopped and started; the application prints", Seen((seen,)))
    assert set(seen.result.statuses) == {"200"}
    assert set(seen.result.answers) == {"one", "two", "three"}


@pytest.mark.operate
@pytest.mark.parametrize("number", ["HUP", "USR1", "USR2", "TTIN", "WINCH"])
def test_a_signal_to_every_process_of_the_unit_ends_none(machine: Machine, number: str) -> None:
    start(machine)
    wait_until(lambda: machine.processes("clusterd: spare"), "there is a spare")
    before = machine.property("clusterd.service", "MainPID")
    with crowd(machine, "--clients", "20") as seen:
        machine.systemctl("kill", "--signal", number, "clusterd.service")
        if number == "HUP":
            machine.wait_for_journal("reload succeeded, generation 2 serves", "--unit=clusterd.service")
        elif number == "TTIN":
            machine.wait_for_journal("3 workers wanted", "--unit=clusterd.service")
    assert seen.result.lost == {}
    record(machine, f"`systemctl kill -s {number} clusterd`, to all processes", Seen((seen,)))
    assert machine.property("clusterd.service", "MainPID") == before
    journal = machine.journal("--unit=clusterd.service")
    assert "died" not in journal and "failed" not in journal


_READS_FILES = """\
[Service]
EnvironmentFile=/etc/clusterd/environment
EnvironmentFile=-/etc/default/not-there
LoadCredential=seen:/etc/clusterd/seen
LoadCredential=hidden:/etc/clusterd-secret/hidden
"""


def test_a_reload_names_what_only_a_restart_reads(machine: Machine) -> None:
    machine.write("/etc/clusterd/environment", "COLOUR=red\n", 0o600)
    machine.write("/etc/clusterd/seen", "one\n", 0o600)
    machine.write("/etc/clusterd-secret/hidden", "one\n", 0o600)
    machine.run("chmod", "0700", "/etc/clusterd-secret")
    machine.write("/etc/systemd/system/clusterd.service.d/files.conf", _READS_FILES)
    machine.systemctl("daemon-reload")
    start(machine)
    wait_until(lambda: "hidden" in _notes(machine), "systemd has told which files it has read")
    assert "has changed" not in _notes(machine)
    machine.write("/etc/clusterd/environment", "COLOUR=blue\n", 0o600)
    notes = _notes(machine)
    assert "EnvironmentFile=/etc/clusterd/environment has changed since the start, " in notes
    assert "seen:/etc/clusterd/seen" not in notes
    machine.write("/etc/clusterd/seen", "two\n", 0o600)
    assert "LoadCredential=seen:/etc/clusterd/seen has changed since the start, " in _notes(machine)
    assert "not-there" not in _notes(machine)
    machine.systemctl("restart", "clusterd.service")
    wait_until(lambda: "hidden" in _notes(machine), "systemd has told which files it has read")
    assert "has changed" not in _notes(machine)


def _notes(machine: Machine) -> str:
    """What a reload says beside that it has succeeded."""
    done = machine.run("clusterctl", "reload")
    return done.stdout + done.stderr


@pytest.mark.operate
@pytest.mark.parametrize("number", ["TERM", "INT", "URG"])
def test_a_stop_to_every_process_of_the_unit_is_a_restart(machine: Machine, number: str) -> None:
    """systemd has not been asked to stop it, and starts it again: clients wait in the socket meanwhile."""
    start(machine)
    before = machine.property("clusterd.service", "MainPID")
    with crowd(machine, "--clients", "20") as seen:
        machine.systemctl("kill", "--signal", number, "clusterd.service")
        wait_until(lambda: machine.property("clusterd.service", "MainPID") not in ("0", before), "it is started again")
        wait_until(lambda: "Serving" in machine.property("clusterd.service", "StatusText"), "it serves")
    assert seen.result.lost == {}
    record(machine, f"`systemctl kill -s {number} clusterd`, to all processes: systemd starts it again", Seen((seen,)))
    journal = machine.journal("--unit=clusterd.service")
    assert "died" not in journal and "worker failed" not in journal and "Traceback" not in journal


def test_stopped_workers_are_not_ready(machine: Machine) -> None:
    start(machine)
    workers = json.loads(machine.run("clusterctl", "--json", "status").stdout)["workers"]
    pids = [str(worker["pid"]) for worker in workers]
    assert len(pids) == 2
    machine.run("sh", "-c", f"kill -STOP {' '.join(pids)}")
    wait_until(lambda: ask(machine, READY).status == 503, "it is not ready")
    assert ask(machine, READY).text.endswith(": no worker's event loop turns\n")
    assert "no worker's event loop turns" in machine.property("clusterd.service", "StatusText")
    machine.run("sh", "-c", f"kill -CONT {' '.join(pids)}")
    wait_until(lambda: ask(machine, READY).status == 200, "it is ready again")
    assert "not ready" not in machine.property("clusterd.service", "StatusText")


_OPEN = "import sys; open(sys.argv[1], 'r+b').close()"


def test_the_memory_of_the_master_is_closed_to_its_workers(machine: Machine) -> None:
    """As user clusterd, and of a worker it is open: the test would notice if that were for another reason."""
    start(machine)
    master = machine.property("clusterd.service", "MainPID")
    status = machine.run("clusterctl", "status", "--json").stdout
    worker = str(json.loads(status)["workers"][0]["pid"])
    opened = {
        pid: machine.run("runuser", "-u", "clusterd", "--", "python3", "-c", _OPEN, f"/proc/{pid}/mem", check=False)
        for pid in (master, worker)
    }
    assert opened[worker].returncode == 0
    assert "PermissionError" in opened[master].stderr

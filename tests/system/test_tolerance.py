"""What an operator does beside clusterd, or does to all of its processes: no request fails of it."""

import pytest

from tests.process.service import wait_until
from tests.system.crowd import crowd
from tests.system.deployment import GOOD, configure, deploy, start
from tests.system.machine import Machine

JOURNAL_SOCKETS = ("systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald-audit.socket")

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
    machine.systemctl("start", *JOURNAL_SOCKETS[:2], "systemd-journald.service")


def _is_printed(machine: Machine, version: str, since: str) -> bool:
    """Both streams, by the workers, in the journal of the unit."""
    text = machine.journal("--unit=clusterd.service", f"--since=@{since}", lines=10_000)
    return f"printed by {version}" in text and f"said by {version}" in text


def _now(machine: Machine) -> str:
    return machine.run("date", "+%s.%N").stdout.strip()


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
    assert set(seen.result.statuses) == {"200"}
    assert set(seen.result.answers) == {"one", "two", "three"}


@pytest.mark.parametrize("number", ["HUP", "USR1", "USR2", "TTIN", "WINCH", "URG"])
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
    assert machine.property("clusterd.service", "MainPID") == before
    journal = machine.journal("--unit=clusterd.service")
    assert "died" not in journal and "failed" not in journal

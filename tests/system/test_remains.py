"""What a master leaves behind: ended when no other follows, and undisturbed when one does."""

import pytest

from tests.support.machines.asking import start_asking
from tests.support.machines.deployment import CONFIG, WAITS, configure, deploy
from tests.support.machines.machine import Machine
from tests.support.service import wait_until

SERVICE = "clusterd.service"

STORES_AFTER_THE_WAIT = WAITS.replace(
    "    body = ",
    """\
    import tempfile
    with tempfile.NamedTemporaryFile() as file, open("/var/tmp/mine", "w"):
        file.write(b"x")
    body = """,
)


def kill_master(machine: Machine) -> None:
    """End it by SIGKILL and wait until the next one serves."""
    before = machine.property(SERVICE, "MainPID")
    machine.run("sh", "-c", f"kill -KILL {before}")
    wait_until(lambda: machine.property(SERVICE, "MainPID") not in ("0", before), "another master")
    wait_until(lambda: machine.property(SERVICE, "SubState") == "running", "it runs")


def sleepers(machine: Machine) -> int:
    """How many processes wait, as those that these tests start instead of an application's."""
    return machine.processes("sleep 1000").count("sleep 1000")


def test_what_a_master_leaves_that_does_not_stop_in_time_is_ended(machine: Machine) -> None:
    """The shell does not notice SIGURG, as a master that hangs does not. One that is stopped would: SIGCONT follows."""
    text = "[Service]\nType=exec\nTimeoutStopSec=3s\nExecStart=\nExecStart=/bin/sh -c 'sleep 1000 & wait'\n"
    machine.write(f"/etc/systemd/system/{SERVICE}.d/test.conf", text)
    machine.systemctl("daemon-reload")
    machine.systemctl("start", SERVICE)
    wait_until(lambda: sleepers(machine) == 1, "it has started another")
    machine.systemctl("stop", "clusterd.socket", SERVICE)
    assert machine.property(SERVICE, "Result") == "timeout"
    assert sleepers(machine) == 0
    assert machine.property("clusterd-tmp.service", "ActiveState") == "inactive"


def test_a_request_that_outlives_its_master_has_its_temporary_files(machine: Machine) -> None:
    """systemd removes the private /tmp of a service that has no main process, unless another unit shares it."""
    deploy(machine, "one", STORES_AFTER_THE_WAIT)
    configure(machine, CONFIG.replace("drain: 10s", "drain: 60s"))
    machine.systemctl("restart", SERVICE)
    asking = start_asking(machine, "http://127.0.0.1:8000/wait")
    try:
        wait_until(lambda: "/wait" in machine.run("clusterctl", "stacks", "all").stdout, "it is under way")
        kill_master(machine)
        machine.write("/srv/app/release", "")
        assert asking.communicate(timeout=60)[0].startswith("200\n")
    finally:
        asking.kill()
        asking.communicate()


@pytest.mark.parametrize("status", ["70", "78"])
def test_after_an_exit_without_a_restart_nothing_is_left(machine: Machine, status: str) -> None:
    """The master is replaced by a program that leaves a process behind."""
    text = f"[Service]\nType=exec\nExecStart=\nExecStart=/bin/sh -c 'sleep 1000 & exit {status}'\n"
    machine.write(f"/etc/systemd/system/{SERVICE}.d/test.conf", text)
    machine.systemctl("daemon-reload")
    machine.systemctl("start", SERVICE, check=False)
    wait_until(lambda: machine.property(SERVICE, "ActiveState") == "failed", "it has failed")
    assert sleepers(machine) == 0


def test_what_a_master_leaves_that_is_followed_by_another_is_not_ended(machine: Machine) -> None:
    text = "[Service]\nType=exec\nKillSignal=SIGTERM\nExecStart=\nExecStart=/bin/sh -c 'sleep 1000 & wait'\n"
    machine.write(f"/etc/systemd/system/{SERVICE}.d/test.conf", text)
    machine.systemctl("daemon-reload")
    machine.systemctl("start", SERVICE)
    wait_until(lambda: sleepers(machine) == 1, "it has started another")
    kill_master(machine)
    wait_until(lambda: sleepers(machine) == 2, "both go on")
    machine.systemctl("stop", SERVICE)
    assert sleepers(machine) == 0

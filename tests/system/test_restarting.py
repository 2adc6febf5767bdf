"""Restarts, deaths of the master and starts that fail: none of them takes the service down for good."""

import sys

import pytest

from tests.support.machines.asking import ask
from tests.support.machines.deployment import (
    CONFIG,
    CURRENT,
    GOOD,
    IMPORT_FAILS,
    SYNTAX_ERROR,
    configure,
    deploy,
    start,
)
from tests.support.machines.machine import Machine, Process
from tests.support.machines.reliability import crowds, record
from tests.support.service import wait_until

pytestmark = pytest.mark.operate

SERVICE = "clusterd.service"
SOCKETS = ("clusterd.socket", "clusterd-metrics.socket")

NEEDS_A_FILE = """
import os
if not os.path.exists("/run/database"):
    raise ConnectionError("the database is not up")
"""

WAITING_CLIENT = """
import socket
with socket.create_connection(("127.0.0.1", 8000)) as client:
    client.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
    print(client.makefile("rb").read().decode().splitlines()[0])
"""


def waiting_client(machine: Machine) -> Process:
    """A client that waits for its answer as long as it takes."""
    return machine.start_in_network(sys.executable, "-c", WAITING_CLIENT)


def main_pid(machine: Machine) -> str:
    return machine.property(SERVICE, "MainPID")


def is_running_anew(machine: Machine, before: str) -> bool:
    return machine.property(SERVICE, "SubState") == "running" and main_pid(machine) not in ("0", before)


def assert_the_sockets_are_open(machine: Machine) -> None:
    assert {machine.property(socket, "ActiveState") for socket in SOCKETS} == {"active"}


def starts(machine: Machine) -> int:
    """How often systemd has started the service since the boot."""
    return machine.journal("--unit=clusterd.service").count("Starting clusterd.service")


def test_ten_restarts_in_a_row_lose_nothing(machine: Machine) -> None:
    start(machine)
    with crowds(machine) as seen:
        for _ in range(10):
            machine.systemctl("restart", SERVICE)
            assert machine.property(SERVICE, "ActiveState") == "active"
    assert (seen.lost, seen.refused) == (0, 0), seen.troubles
    assert_the_sockets_are_open(machine)
    record(machine, "ten times `systemctl restart clusterd`", seen)


def test_a_master_that_is_killed_again_and_again_costs_no_request(machine: Machine) -> None:
    start(machine)
    with crowds(machine) as seen:
        for _ in range(10):
            before = main_pid(machine)
            machine.run("sh", "-c", f"kill -KILL {before}")
            wait_until(lambda: is_running_anew(machine, before), "the next master runs")  # noqa: B023
    assert (seen.lost, seen.refused) == (0, 0), seen.troubles
    assert_the_sockets_are_open(machine)
    record(machine, "ten times SIGKILL of the master", seen)


SLOW = GOOD.replace(
    "    time.sleep(0.005)\n",
    """\
    if environ["PATH_INFO"] == "/slow":
        import subprocess
        subprocess.run(["sleep", "18"], check=True)
    time.sleep(0.005)
""",
)
SLOW_CLIENT = WAITING_CLIENT.replace("GET /", "GET /slow")


@pytest.mark.parametrize("how", ["the master is killed", "systemctl restart"])
def test_a_request_that_waits_for_a_subprocess_is_answered(machine: Machine, how: str) -> None:
    deploy(machine, "one", SLOW)
    configure(machine, CONFIG.replace("drain: 10s", "drain: 30s"))
    machine.systemctl("restart", SERVICE)
    with crowds(machine, "--timeout", "60") as seen:
        slow = machine.start_in_network(sys.executable, "-c", SLOW_CLIENT)
        wait_until(lambda: machine.processes("sleep 18"), "the request is being answered")
        before = main_pid(machine)
        if how == "systemctl restart":
            machine.systemctl("restart", SERVICE)
        else:
            machine.run("sh", "-c", f"kill -KILL {before}")
            wait_until(lambda: is_running_anew(machine, before), "the next master runs")
        answer, _ = slow.communicate(timeout=60)
    assert answer == "HTTP/1.1 200 OK\n"
    assert (seen.lost, seen.refused) == (0, 0), seen.troubles
    record(machine, f"{how} while one request takes 18 s, with a subprocess of its own", seen)


def test_a_master_that_is_killed_during_a_reload_is_replaced_at_once(machine: Machine) -> None:
    start(machine)
    deploy(machine, "two", "import time\ntime.sleep(60)\n")
    before = main_pid(machine)
    with crowds(machine) as seen:
        reload = machine.start("systemctl", "reload", SERVICE)
        machine.wait_for_journal("rollout 1 begins", "--unit=clusterd.service")
        deploy(machine, "three")
        machine.run("sh", "-c", f"kill -KILL {before}")
        wait_until(lambda: is_running_anew(machine, before), "the next master runs")
        reload.communicate(timeout=60)
    assert reload.returncode != 0
    assert (seen.lost, seen.refused) == (0, 0), seen.troubles
    assert machine.property(SERVICE, "NRestarts") == "1"
    assert "Watchdog" not in machine.journal("--unit=clusterd.service")
    record(machine, "SIGKILL of the master during a reload", seen)


def test_a_master_that_hangs_is_replaced_and_costs_no_request(machine: Machine) -> None:
    machine.write("/etc/systemd/system/clusterd.service.d/watchdog.conf", "[Service]\nWatchdogSec=5s\n")
    machine.systemctl("daemon-reload")
    deploy(machine, "one", SLOW)
    configure(machine, CONFIG.replace("drain: 10s", "drain: 30s"))
    machine.systemctl("restart", SERVICE)
    with crowds(machine, "--timeout", "60") as seen:
        slow = machine.start_in_network(sys.executable, "-c", SLOW_CLIENT)
        wait_until(lambda: machine.processes("sleep 18"), "a request is being answered")
        before = main_pid(machine)
        machine.run("sh", "-c", f"kill -STOP {before}")
        machine.wait_for_journal("Watchdog timeout", "--unit=clusterd.service")
        wait_until(lambda: is_running_anew(machine, before), "the next master runs")
        answer, _ = slow.communicate(timeout=60)
    assert answer == "HTTP/1.1 200 OK\n"
    assert (seen.lost, seen.refused) == (0, 0), seen.troubles
    record(machine, "the master hangs (WatchdogSec=5s) while one request takes 18 s, with its subprocess", seen)


HANGS = GOOD.replace(
    "    time.sleep(0.005)\n",
    """\
    if environ["PATH_INFO"] == "/hang":
        time.sleep(1000)
    time.sleep(0.001)
""",
)
HANGING_CLIENT = """
import socket
with socket.create_connection(("127.0.0.1", 8000)) as client:
    client.sendall(b"GET /hang HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    try:
        print(client.recv(1))
    except ConnectionResetError:
        print(b"")
"""


def test_a_worker_that_hangs_costs_the_request_that_hangs(machine: Machine) -> None:
    deploy(machine, "one", HANGS)
    configure(machine, CONFIG.replace("threads: 32", "threads: 0").replace("drain: 10s", "drain: 10s, hang: 4s"))
    machine.systemctl("restart", SERVICE)
    with crowds(machine, "--timeout", "60") as seen:
        hanging = machine.start_in_network(sys.executable, "-c", HANGING_CLIENT)
        answer, _ = hanging.communicate(timeout=60)
        machine.wait_for_journal("request lost with its worker", "--unit=clusterd.service")
    assert answer == "b''\n"
    assert (seen.lost, seen.refused) == (0, 0), seen.troubles
    assert machine.journal("--unit=clusterd.service").count("lost with") == 1
    record(machine, "a worker hangs (timeouts.hang: 4s)", seen)


def test_a_worker_that_hangs_is_replaced_where_its_connections_cannot_be_taken(machine: Machine) -> None:
    drop_in = "/etc/systemd/system/clusterd.service.d/filter.conf"
    machine.write(drop_in, "[Service]\nSystemCallFilter=~pidfd_getfd\n")
    machine.systemctl("daemon-reload")
    deploy(machine, "one", HANGS)
    configure(machine, CONFIG.replace("threads: 32", "threads: 0").replace("drain: 10s", "drain: 10s, hang: 4s"))
    machine.systemctl("restart", SERVICE)
    with crowds(machine, "--timeout", "60"):
        answer, _ = machine.start_in_network(sys.executable, "-c", HANGING_CLIENT).communicate(timeout=60)
    assert answer == "b''\n"
    refused = "they cannot be given to others: Operation not permitted"
    machine.wait_for_journal(refused, "--unit=clusterd.service")
    machine.wait_for_journal("worker failed: its event loop has not turned", "--unit=clusterd.service")
    assert ask(machine).status == 200


def test_a_stop_right_after_a_start_is_heard(machine: Machine) -> None:
    start(machine)
    machine.systemctl("stop", SERVICE)
    for seconds in ("0.01", "0.03", "0.06", "0.1", "0.2"):
        machine.run("sh", "-c", f"systemctl start --no-block {SERVICE}; sleep {seconds}; systemctl stop {SERVICE}")
        # Otherwise "timeout", after 45 seconds: the signal was ignored while the interpreter started.
        assert machine.property(SERVICE, "Result") == "success"


def test_an_application_that_needs_what_comes_late_is_waited_for(machine: Machine) -> None:
    deploy(machine, "one", NEEDS_A_FILE + GOOD)
    configure(machine)
    clients = [waiting_client(machine) for _ in range(3)]
    machine.wait_for_journal("start attempt 4 failed, trying again in 8 s: .*the database is not up")
    assert "the database is not up" in machine.property(SERVICE, "StatusText")
    assert ask(machine, "http://127.0.0.1:8001/readyz").status == 503
    assert_the_sockets_are_open(machine)
    machine.write("/run/database", "")
    for client in clients:
        assert client.communicate(timeout=90)[0] == "HTTP/1.1 200 OK\n"
    # The first worker serves while the others boot.
    wait_until(lambda: machine.property(SERVICE, "ActiveState") == "active", "all workers are ready")


def test_a_start_that_goes_on_failing_fails_within_90_seconds_and_is_made_again(machine: Machine) -> None:
    deploy(machine, "one", NEEDS_A_FILE + GOOD)
    configure(machine)
    started = machine.run("systemctl", "start", SERVICE, check=False, timeout=90)
    assert started.returncode != 0
    machine.wait_for_journal("start attempt 8 failed", seconds=90)
    assert starts(machine) == 2
    machine.write("/run/database", "")
    wait_until(lambda: machine.property(SERVICE, "ActiveState") == "active", "it comes up by itself")


@pytest.mark.parametrize(
    ("release", "configuration", "says"),
    [
        (SYNTAX_ERROR, "", "SyntaxError"),
        (IMPORT_FAILS, "", "ModuleNotFoundError"),
        (GOOD, "wokers: 3\n", "did you mean 'workers'"),
    ],
    ids=["syntax", "module", "configuration"],
)
def test_what_can_never_start_fails_at_once_and_is_tried_slowly_while_clients_wait(
    machine: Machine, release: str, configuration: str, says: str
) -> None:
    deploy(machine, "one", release)
    configure(machine, f"app: application:app\ndirectory: {CURRENT}\n{configuration}")
    assert machine.run("systemctl", "start", SERVICE, check=False).returncode != 0
    assert machine.property(SERVICE, "ActiveState") == "failed"
    assert says in machine.systemctl("status", SERVICE, check=False)
    before = starts(machine)
    clients = [waiting_client(machine) for _ in range(5)]
    pauses = "the last start failed, trying again in"
    wait_until(lambda: machine.journal("--unit=clusterd.service").count(pauses) >= 2, "starts are paced")
    # The first pauses are short and may be over before a slow machine has started clusterd.
    assert starts(machine) - before <= 5
    assert_the_sockets_are_open(machine)
    deploy(machine, "two")
    configure(machine)
    machine.systemctl("restart", SERVICE)
    for client in clients:
        assert client.communicate(timeout=60)[0] == "HTTP/1.1 200 OK\n"


def test_a_reload_goes_on_while_systemd_executes_itself_anew_and_says_what_became_of_it(machine: Machine) -> None:
    start(machine)
    deploy(machine, "two", "import time\ntime.sleep(2)\n" + GOOD)
    with crowds(machine) as seen:
        by_systemd = machine.start("systemctl", "reload", SERVICE)
        machine.wait_for_journal("rollout 1 begins", "--unit=clusterd.service")
        by_clusterctl = machine.start("clusterctl", "reload")
        machine.systemctl("daemon-reexec")
        # systemctl itself loses its connection to systemd, on Debian 12 and 13, and fails whatever becomes of the job.
        by_systemd.communicate(timeout=60)
        answer, _ = by_clusterctl.communicate(timeout=60)
        assert by_clusterctl.returncode == 0
        assert "reload succeeded" in answer
        wait_until(lambda: machine.property(SERVICE, "ActiveState") == "active", "the reload is over for systemd too")
    assert "; reloaded at " in machine.property(SERVICE, "StatusText")
    assert (seen.lost, seen.refused) == (0, 0), seen.troubles
    record(machine, "`systemctl daemon-reexec` during a reload", seen)


def test_the_reload_is_shown_while_it_lasts(machine: Machine) -> None:
    start(machine)
    deploy(machine, "two", "import time\ntime.sleep(2)\n" + GOOD)
    reload = machine.start("systemctl", "reload", SERVICE)
    wait_until(lambda: machine.property(SERVICE, "StatusText").startswith("Reloading: "), "the status says so")
    assert machine.property(SERVICE, "ActiveState") == "reloading"
    reload.communicate(timeout=60)
    assert reload.returncode == 0
    assert machine.property(SERVICE, "ActiveState") == "active"

"""What the master observes from within the sandbox of its unit, as a user without privileges."""

import json
import re
import socket
import sys
from contextlib import ExitStack

from tests.support.machines.asking import ask, ask_unix
from tests.support.machines.deployment import configure, deploy, start
from tests.support.machines.machine import Machine
from tests.support.service import wait_until

TCP = "127.0.0.1:8000"
UNIX = "/run/clusterd-second.http.sock"

# Connects, says so, and keeps the connections until its standard input ends.
_CONNECT = """
import socket, sys
kept = [socket.create_connection(("127.0.0.1", 8000)) for _ in range(7)]
print("connected", flush=True)
sys.stdin.read()
"""


def stop_workers(machine: Machine, *instance: str) -> list[str]:
    """Stop them, not clusterd, so that they accept nothing; their pids."""
    described = json.loads(machine.run("clusterctl", *instance, "status", "--json").stdout)
    pids = [str(worker["pid"]) for worker in described["workers"]]
    machine.run("sh", "-c", f"kill -STOP {' '.join(pids)}")
    return pids


def value(page: str, name: str, label: str) -> float:
    (found,) = re.findall(rf"^{name}\{{{re.escape(label)}\}} (\S+)$", page, re.MULTILINE)
    return float(found)


def test_the_queues_of_the_sockets_that_systemd_has_passed_are_seen(machine: Machine) -> None:
    start(machine)
    deploy(machine, "second")
    configure(machine, "app: application:app\ndirectory: /srv/app/releases/second\n", "second")
    machine.systemctl("start", "clusterd@second.socket")
    assert ask_unix(machine, UNIX).status == 200

    stopped = stop_workers(machine) + stop_workers(machine, "-i", "second")
    with ExitStack() as opened, machine.start_in_network(sys.executable, "-c", _CONNECT) as clients:
        assert clients.stdout is not None
        assert clients.stdout.readline() == "connected\n"
        for _ in range(3):
            opened.enter_context(socket.socket(socket.AF_UNIX)).connect(str(machine.root / UNIX.lstrip("/")))
        own = ask(machine, "http://127.0.0.1:8001/metrics").text
        assert value(own, "clusterd_listen_backlog", f'socket="{TCP}"') == 7
        assert value(own, "clusterd_listen_backlog_limit", f'socket="{TCP}"') == 4096
        second = ask_unix(machine, "/run/clusterd-second/metrics.sock", "/metrics").text
        assert value(second, "clusterd_listen_backlog", f'socket="unix:{UNIX}"') == 3
        clients.communicate()
    machine.run("sh", "-c", f"kill -CONT {' '.join(stopped)}")


def test_the_memory_of_the_workers_is_measured(machine: Machine) -> None:
    start(machine)

    def measured() -> list[str]:
        page = ask(machine, "http://127.0.0.1:8001/metrics").text
        return re.findall(r'^clusterd_worker_pss_bytes\{worker="(\d)"\} [1-9]', page, re.MULTILINE)

    wait_until(lambda: sorted(measured()) == ["1", "2"], "both workers are measured")

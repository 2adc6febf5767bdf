"""`clusterctl debug`: debugpy in a worker, with a debugger that attaches to it."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.dap import Debugger
from tests.support.ports import free_port
from tests.support.service import HELLO, Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]

STOPS_HERE = 6
"""The line of HELLO that answers."""
HANG_SECONDS = 0.5


def debugged(make_service: MakeService, **settings: Any) -> tuple[Service, int]:
    """A service whose first worker lets a debugger attach to the port."""
    port = free_port()
    debug = {"port": port - 1, **settings.pop("debug", {})}
    return make_service(workers=1, debug=debug, **settings), port


def refused(service: Service, slot: int = 1) -> str:
    ran = service.clusterctl("debug", str(slot))
    assert (ran.returncode, ran.stdout) == (1, "")
    return ran.stderr


@pytest.fixture
def attach() -> Iterator[Callable[..., Debugger]]:
    """Attach to a port, until the test is over."""
    with ExitStack() as attached:
        yield lambda *arguments: attached.enter_context(closing(Debugger(*arguments)))


Attach = Callable[..., Debugger]


def test_a_debugger_attaches_to_the_process_of_the_worker(make_service: MakeService, attach: Attach) -> None:
    service, port = debugged(make_service)
    service.start()
    (worker,) = service.workers()
    assert worker["debugger"] is None
    said = service.clusterctl("debug", "1")
    assert said.returncode == 0, said.stderr
    first, how, *_ = said.stdout.splitlines()
    assert first == f"worker 1 (pid {worker['pid']}) waits for a debugger at 127.0.0.1:{port}"
    assert f'"connect": {{"host": "127.0.0.1", "port": {port}}}' in how
    assert attach(port).process["systemProcessId"] == worker["pid"]
    assert service.ask().pid == worker["pid"]
    service.wait_for_line(f"debuggers may attach at 127.0.0.1:{port}: .*slot=1")
    assert service.clusterctl("workers").stdout.splitlines()[1].split()[-1] == f"127.0.0.1:{port}"


def test_asked_again_it_says_the_address_again_and_a_debugger_may_come_back(
    make_service: MakeService, attach: Attach
) -> None:
    service, port = debugged(make_service)
    service.start()
    first, second = (json.loads(service.clusterctl("debug", "1", "--json").stdout) for _ in range(2))
    assert first == second
    pid = service.workers()[0]["pid"]
    assert (first["succeeded"], first["host"], first["port"], first["pid"]) == (True, "127.0.0.1", port, pid)
    for _ in range(2):
        debugger = attach(port)
        assert debugger.process["systemProcessId"] == pid
        debugger.ask("disconnect")
        debugger.close()


@pytest.mark.parametrize("threads", [0, 1])
def test_a_worker_at_a_breakpoint_is_not_killed_for_hanging(
    make_service: MakeService, attach: Attach, threads: int
) -> None:
    service, port = debugged(make_service, threads=threads, timeouts={"hang": f"{HANG_SECONDS}s"})
    service.start()
    pid = service.ask().pid  # whichever thread answers is there before the debugger
    assert service.clusterctl("debug", "1").returncode == 0
    debugger = attach(port, (service.application, STOPS_HERE))
    with pending_request(service) as client:
        stopped = debugger.wait_for_event("stopped")["body"]
        stack = debugger.ask("stackTrace", threadId=stopped["threadId"])["body"]["stackFrames"]
        assert (stack[0]["name"], stack[0]["line"]) == ("app", STOPS_HERE)
        wait_until(lambda: heartbeat_age(service) > 4 * HANG_SECONDS, "the worker to stand still")
        debugger.ask("continue", threadId=stopped["threadId"])
        assert f"{pid} 1 1 1".encode() in client.recv(1000)
    assert [worker["pid"] for worker in service.workers()] == [pid]
    assert "killing worker" not in service.log()


def test_a_worker_at_a_breakpoint_does_not_hold_up_a_reload_and_its_port_is_its_successors(
    make_service: MakeService, attach: Attach
) -> None:
    service, port = debugged(make_service, timeouts={"drain": "500ms"})
    service.start()
    before = service.workers()[0]["pid"]
    assert service.clusterctl("debug", "1").returncode == 0
    debugger = attach(port, (service.application, STOPS_HERE))
    with pending_request(service):
        debugger.wait_for_event("stopped")
        assert service.reload().returncode == 0
        service.wait_for_line(f"worker ended: .*pid={before} reason=drain_timeout")
    assert service.clusterctl("debug", "1").returncode == 0
    after = attach(port).process["systemProcessId"]
    assert after == service.ask().pid != before
    assert service.stop() == 0
    assert "left behind" not in service.log()


def test_a_worker_at_a_breakpoint_does_not_hold_up_a_stop(make_service: MakeService, attach: Attach) -> None:
    service, port = debugged(make_service, timeouts={"drain": "500ms"})
    service.start()
    assert service.clusterctl("debug", "1").returncode == 0
    debugger = attach(port, (service.application, STOPS_HERE))
    with pending_request(service):
        debugger.wait_for_event("stopped")
        assert service.stop() == 0


def test_a_function_that_runs_is_debugged_as_well(make_service: MakeService, attach: Attach) -> None:
    service, port = debugged(make_service, app=None, run="app:main", listen=None)
    service.deploy("1", "from clusterd import worker\ndef main():\n    worker.stop_event.wait()\n")
    service.start()
    assert service.clusterctl("debug", "1").returncode == 0
    assert attach(port).process["systemProcessId"] == service.workers()[0]["pid"]


# ---- why not


def test_without_a_port_it_says_which_setting_is_missing(make_service: MakeService) -> None:
    service = make_service(workers=1).start()
    assert refused(service) == (
        "debug.port is off in generation 1, which this worker is of: set debug.port in the configuration, and reload\n"
    )
    assert "there is no slot 2" in refused(service, 2)


def test_a_port_that_is_taken_is_named_and_may_be_free_the_next_time(make_service: MakeService, attach: Attach) -> None:
    service, port = debugged(make_service)
    service.start()
    with socket.create_server(("127.0.0.1", port)):
        assert refused(service) == (
            f"it cannot listen on 127.0.0.1 port {port}: the port is taken; `ss -ltnp sport = :{port}` shows by whom; "
            "debug.port moves all workers' ports\n"
        )
        assert service.workers()[0]["debugger"] is None
    assert service.clusterctl("debug", "1").returncode == 0
    attach(port)


def test_an_address_that_others_reach_has_to_be_asked_for_and_is_warned_of(make_service: MakeService) -> None:
    service, _ = debugged(make_service, debug={"host": "0.0.0.0"})
    service.start()
    ran = service.clusterctl("debug", "1")
    assert ran.returncode == 0
    assert re.match(r"0\.0\.0\.0:\d+ is no loopback address: a client that reaches it can do all", ran.stderr)


def test_an_application_without_debugpy_is_told_how_to_install_it(make_service: MakeService, tmp_path: Path) -> None:
    python = bare_interpreter(tmp_path / "bare")
    service, _ = debugged(make_service, python=python)
    service.start()
    assert refused(service) == (
        f"debugpy is not installed in the application's Python; run: {python} -m pip install debugpy\n"
    )
    assert service.ask().slot == 1


def bare_interpreter(directory: Path) -> str:
    """A virtual environment that has uvloop and nothing else."""
    import uvloop

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    (site,) = directory.glob("lib/python*/site-packages")
    (site / "uvloop").symlink_to(Path(uvloop.__file__).parent)
    return str(directory / "bin/python")


def pending_request(service: Service) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", service.port), 60)
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    return client


def heartbeat_age(service: Service) -> float:
    found = re.search(r'^clusterd_worker_heartbeat_age_seconds\{worker="1"\} (\S+)$', service.metrics().text, re.M)
    return float(found[1]) if found else 0.0


def test_the_line_is_where_the_example_answers() -> None:
    assert HELLO.splitlines()[STOPS_HERE - 2].strip().startswith("start_response")

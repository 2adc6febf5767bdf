"""What applications and clients do that nobody expects, and that must not spread."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.processes import descendants
from tests.support.service import HELLO, Service, wait_until

MakeService = Callable[..., Service]

STREAMS = """
import os, time
def app(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/stream":
        while True:
            time.sleep(0.05)
            yield b"x"
    yield b"ok"
"""


def streaming(service: Service) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", service.port), timeout=30)
    client.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.recv(100)
    return client


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_workers_of_a_dead_master_let_go_of_its_address(make_service: MakeService) -> None:
    service = make_service(timeouts={"drain": "60s"})
    service.deploy("1", STREAMS)
    service.start()
    family = descendants(service.pid)
    with streaming(service) as client:
        service.signal(signal.SIGKILL)
        wait_until(lambda: refuses(service.port), "nobody listens any more")
        assert client.recv(100), "what was under way goes on"
    wait_until(lambda: not [pid for pid in family if Path(f"/proc/{pid}").exists()], "all have left")


def test_a_stop_refuses_new_clients_while_it_drains(make_service: MakeService) -> None:
    service = make_service(timeouts={"drain": "60s"})
    service.deploy("1", STREAMS)
    service.start()
    with streaming(service) as client:
        service.signal(signal.SIGTERM)
        wait_until(lambda: refuses(service.port), "nobody listens any more")
        assert client.recv(100), "what was under way goes on"
    assert service.wait() == 0


def test_what_the_application_has_forked_ends_with_the_service(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.deploy(
        "1",
        "import os, signal, threading\n"
        "def app(environ, start_response):\n"
        "    if os.fork() == 0:\n"
        "        signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "        while True:\n"
        "            threading.Event().wait(10)\n"
        "    start_response('200 OK', [])\n"
        "    return [b'x']\n",
    )
    service.start()
    assert service.get().status_code == 200
    family = descendants(service.pid)
    assert service.stop() == 0
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]
    assert refuses(service.port)


IMPORTS = {
    "children ignored": "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n",
    "no stdout": (
        "import sys, threading\nsys.stdout = None\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    ),
    "odd stdout": (
        "import sys\nclass Odd:\n    def write(self, text): pass\n    def flush(self): raise KeyError\n"
        "sys.stdout = Odd()\n"
    ),
    "frozen time": "import time\ntime.monotonic = time.time = lambda: 1.0\n",
}


@pytest.mark.parametrize("name", IMPORTS)
def test_what_other_servers_load_is_served(make_service: MakeService, name: str) -> None:
    service = make_service(timeouts={"hang": "1s"})
    service.deploy("1", IMPORTS[name] + HELLO)
    service.start()
    before = {worker["pid"] for worker in service.workers()}
    service.deploy("2", IMPORTS[name] + HELLO)
    assert service.reload().returncode == 0
    assert service.ask().version == "2"
    os.kill(service.ask().pid, signal.SIGKILL)
    service.wait_for_line("worker failed: SIGKILL")
    wait_until(lambda: len(service.workers()) == 2, "the killed one is replaced")
    assert not before & {worker["pid"] for worker in service.workers()}
    assert "reason=hang" not in service.log()


FAILURES = {
    "long": ("raise RuntimeError('\\u20ac' * 100_000)\n", "RuntimeError: \u20ac\u20ac"),
    "mute": (
        "class Mute(Exception):\n    def __str__(self): raise KeyError\nraise Mute\n",
        "Mute: <an exception that fails to say what it is>",
    ),
    "surrogate": ("raise RuntimeError('\\udc80 \\x1b[31mred')\n", "RuntimeError: \\udc80 \\x1b[31mred"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failed_import_says_why_whatever_its_exception_is_like(make_service: MakeService, name: str) -> None:
    source, why = FAILURES[name]
    service = make_service().start()
    service.deploy("2", source)
    done = service.reload()
    assert done.returncode == 1
    assert why in done.stderr
    assert "app.py:" in done.stderr
    assert service.metrics("/").status_code == 200


def test_more_addresses_than_fit_are_refused(make_service: MakeService) -> None:
    service = make_service(listen=["127.0.0.1:0"] * 41)
    service.start(wait=False)
    assert service.wait() == 75
    assert "listen: 41 addresses to serve on; at most 40 are possible" in service.log()


def test_an_interpreter_that_begins_slowly_is_not_hurt_by_our_curiosity(
    make_service: MakeService, tmp_path: Path
) -> None:
    # It is asked what it does after half of that time, and has as much again to begin on a busy machine.
    service = make_service(rollout={"boot_timeout": "6s", "settle": "0ms"}).start()
    wrapper = tmp_path / "python"
    # dash unblocks signals that are blocked when it starts.
    wrapper.write_text(f'#!/bin/sh\nsleep 3.5\nexec {os.path.realpath("/proc/self/exe")} "$@"\n')
    wrapper.chmod(0o755)
    service.configure(python=str(wrapper))
    done = service.reload()
    assert "signal" not in done.stderr
    assert done.returncode == 0 or "lacks uvloop" in done.stderr


def test_silent_peers_do_not_keep_others_from_the_control_socket(make_service: MakeService) -> None:
    service = make_service(workers=1).start()
    silent = [socket.socket(socket.AF_UNIX) for _ in range(40)]
    for peer in silent:
        peer.connect(str(service.control))
    assert service.clusterctl("status").returncode == 0
    assert service.reload().returncode == 0
    for peer in silent:
        peer.close()


def test_nobody_listens_anew_on_the_control_socket(make_service: MakeService) -> None:
    """What systemd passes keeps its own backlog; seen here on one that clusterd has bound."""
    service = make_service(workers=1).start()
    listening = subprocess.run(["ss", "-xlH", "src", str(service.control)], capture_output=True, text=True, check=True)
    assert listening.stdout.split()[3] == "2048"


def test_a_withdrawal_that_nobody_can_restore_holds_up_no_reload(make_service: MakeService) -> None:
    service = make_service(worker_start="app:start", rollout={"settle": "0ms", "boot_timeout": "60s"})
    fails = HELLO + "def start():\n    if os.environ['CLUSTERD_WORKER'] == '2' and BROKEN:\n        raise OSError\n"
    service.deploy("1", fails + "BROKEN = False\n")
    service.start()
    wait_until(lambda: len(descendants(service.pid)) == 4, "template, spare and two workers")
    workers = {worker["pid"] for worker in service.workers()}
    for pid in set(descendants(service.pid)) - workers:
        os.kill(pid, signal.SIGKILL)
    service.wait_for_line("template died")
    service.deploy("2", fails + "BROKEN = True\n")
    assert service.reload().returncode == 1
    service.deploy("3", fails + "BROKEN = False\n")
    done = service.reload()
    assert done.returncode == 0, done.stderr
    assert service.ask().version == "3"

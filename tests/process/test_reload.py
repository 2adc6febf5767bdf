"""Rolling restarts: new code, new settings, nothing lost, and back when it goes wrong."""

import os
import select
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import descendants, open_files
from tests.support.service import HELLO, Service, wait_until

MakeService = Callable[..., Service]


def test_a_reload_serves_the_new_code_in_the_same_slots(make_service: MakeService) -> None:
    service = make_service().start()
    service.deploy("2")
    done = service.reload()
    assert (done.returncode, done.stderr) == (0, "")
    assert "generation 2 serves" in done.stdout
    assert {service.ask().version for _ in range(10)} == {"2"}
    assert [(w["slot"], w["generation"]) for w in service.workers()] == [(1, 2), (2, 2)]


def test_the_environment_and_the_worker_count_are_picked_up(make_service: MakeService) -> None:
    service = make_service(environment={"COLOUR": "red", "OLD": "1"}, workers=1)
    service.deploy("1", HELLO.replace("VERSION", "{os.environ.get('COLOUR')}-{os.environ.get('OLD')}"))
    service.start()
    assert service.ask().version == "red-1"
    service.configure(environment={"COLOUR": "blue"}, workers=3)
    assert service.reload().returncode == 0
    assert service.ask().version == "blue-None"
    assert [worker["slot"] for worker in service.workers()] == [1, 2, 3]
    service.configure(workers=1)
    assert service.reload().returncode == 0
    service.wait_for_status("^Serving: 1 worker, generation 3; reloaded at ")


def test_the_environment_file_is_read_again(make_service: MakeService) -> None:
    service = make_service(workers=None)
    file = service.directory / "shop.env"
    file.write_text("COLOUR='red'\nOLD=1\nWEB_CONCURRENCY=1\n")
    service.environment = {"COLOUR": "of the master", "WEB_CONCURRENCY": "7"}
    service.flags = ("--env-file", "shop.env")
    service.deploy("1", HELLO.replace("VERSION", "{os.environ.get('COLOUR')}-{os.environ.get('OLD')}"))
    service.start()
    service.wait_for_line(rf"the environment file {file} sets COLOUR, OLD, WEB_CONCURRENCY")
    assert (service.ask().version, len(service.workers())) == ("red-1", 1)
    file.write_text("export COLOUR=blue  # now\n\nWEB_CONCURRENCY=2\n")
    assert service.reload().returncode == 0
    assert (service.ask().version, len(service.workers())) == ("blue-None", 2)
    file.write_text("COLOUR\n")
    failed = service.reload()
    assert (failed.returncode, f"{file}:1: this is not NAME=VALUE" in failed.stderr) == (1, True)
    assert service.ask().version == "blue-None"


def test_a_switched_symlink_is_followed(make_service: MakeService, tmp_path: Path) -> None:
    current = tmp_path / "current"
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "app.py").write_text(HELLO.replace("VERSION", version))
    current.symlink_to(tmp_path / "1")
    service = make_service(directory=str(current)).start()
    assert service.ask().version == "1"
    (tmp_path / "next").symlink_to(tmp_path / "2")
    (tmp_path / "next").rename(current)
    assert service.reload().returncode == 0
    assert service.ask().version == "2"


def test_a_setting_that_needs_a_restart_is_named(make_service: MakeService) -> None:
    service = make_service().start()
    service.configure(listen=["127.0.0.1:1"])
    done = service.reload()
    assert done.returncode == 0
    assert "listen" in done.stderr
    assert "restart" in done.stderr
    assert service.ask().generation == 2


BAD_DEPLOYS: dict[str, tuple[str, dict[str, Any], str]] = {
    "syntax": ("def app(:\n", {}, "SyntaxError"),
    "import": ("import nothing_of_that_name\n", {}, "nothing_of_that_name"),
    "exit": ("raise SystemExit(3)\n", {}, "SystemExit"),
    "attribute": ("other = 1\n", {}, "app"),
    "start": (
        HELLO + "def prepare():\n    raise RuntimeError('no database')\n",
        {"worker_start": "app:prepare"},
        "no database",
    ),
    "hang": (
        "import time\ntime.sleep(600)\n",
        {"rollout": {"settle": "0ms", "boot_timeout": "1s"}},
        "boot_timeout",
    ),
    "health": (
        "def app(environ, start_response):\n    start_response('500 Oh', [])\n    return [b'\\n it is broken\\n']\n",
        {"rollout": {"settle": "0ms", "health_check": {"path": "/up"}}},
        "health check /up: answered 500, expected 2xx; it is broken",
    ),
    "crash": ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", {}, "SIGSEGV"),
    "python": (HELLO, {"python": "/nonexistent/python"}, "/nonexistent/python"),
    "no python": (HELLO, {"python": "/bin/false"}, "/bin/false cannot run a template (exit status 1)"),
    "factory": ("def app():\n    return None\n", {}, "write app:app()"),
    "hook": (HELLO, {"worker_stop": "app:nothing"}, "worker_stop: app:nothing"),
}


@pytest.mark.parametrize("deploy", BAD_DEPLOYS)
@pytest.mark.parametrize("preload", ["auto", False])
def test_a_bad_deploy_changes_nothing_and_says_why(make_service: MakeService, deploy: str, preload: object) -> None:
    source, settings, why = BAD_DEPLOYS[deploy]
    service = make_service(preload=preload).start()
    before = {worker["pid"] for worker in service.workers()}
    original = dict(service.settings)
    service.deploy("2", source)
    service.configure(**settings)
    done = service.reload()
    assert done.returncode == 1
    assert why in done.stderr
    assert "FAILED" in service.wait_for_status("FAILED")
    assert why.split()[0] in service.wait_for_status("FAILED") or deploy == "health"
    assert service.ask().version == "1"
    after = {worker["pid"] for worker in service.workers()}
    assert after == before or deploy in {"start", "health", "hook"}
    service.settings = original
    service.deploy("3")
    service.configure()
    assert service.reload().returncode == 0
    assert service.ask().version == "3"


def test_each_failed_reload_shows_its_traceback(make_service: MakeService) -> None:
    service = make_service().start()
    service.deploy("2", "raise RuntimeError('broken deploy')\n")
    for count in (1, 2):
        assert service.reload().returncode == 1
        assert service.log().count("raise RuntimeError('broken deploy')") == count


SLOW = """
import os, time
def app(environ, start_response):
    open(os.environ["STARTED"], "w").close()
    while not os.path.exists(os.environ["GO"]):
        time.sleep(0.01)
    start_response("200 OK", [])
    return [b"done"]
"""


def test_the_log_level_changes_for_workers_that_still_drain_too(make_service: MakeService, tmp_path: Path) -> None:
    started, go = tmp_path / "started", tmp_path / "go"
    environment = {"STARTED": str(started), "GO": str(go)}
    service = make_service(workers=1, environment=environment, log={"level": "warning", "access": "all"})
    service.deploy("1", SLOW)
    service.start()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(service.get, "/slow")
        wait_until(started.exists, "the request arrives")
        service.configure(log={"level": "info", "access": "all"})
        assert service.reload().returncode == 0
        go.touch()
        assert slow.result().text == "done"
    service.wait_for_line("target=/slow")


def test_a_bad_file_changes_nothing(make_service: MakeService) -> None:
    service = make_service().start()
    good = service.config.read_text()
    service.config.write_text(good[:-1] + ', "wokers": 3}')
    done = service.reload()
    assert done.returncode == 1
    assert "wokers" in done.stderr
    assert service.ask().generation == 1
    service.config.write_text(good)
    assert service.reload().returncode == 0


def test_a_successor_that_dies_withdraws_the_rollout(make_service: MakeService) -> None:
    service = make_service(rollout={"settle": "30s"}).start()
    service.deploy("2")
    service.signal(signal.SIGHUP)
    service.wait_for_status("1 of 2 workers replaced")
    [successor] = [worker for worker in service.workers() if worker["generation"] == 2]
    os.kill(successor["pid"], signal.SIGKILL)
    service.wait_for_status("^Serving: 2 workers, generation 1; .*FAILED")
    assert {service.ask().version for _ in range(10)} == {"1"}


def test_five_hups_in_a_row_end_in_one_generation(make_service: MakeService) -> None:
    service = make_service().start()
    for _ in range(5):
        service.signal(signal.SIGHUP)
    service.wait_for_line("reload succeeded")
    service.wait_for_status("^Serving: 2 workers, generation [23]; reloaded at ")
    generations = {worker["generation"] for worker in service.workers()}
    assert len(generations) == 1
    assert len(service.workers()) == 2


def test_term_during_a_rollout_stops_at_once(make_service: MakeService) -> None:
    service = make_service(rollout={"settle": "60s"}).start()
    service.signal(signal.SIGHUP)
    service.wait_for_status("1 of 2 workers replaced")
    family = descendants(service.pid)
    assert service.stop() == 0
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]


def idle_connections(service: Service, count: int, *, used: bool) -> list[socket.socket]:
    clients = []
    for _ in range(count):
        client = socket.create_connection(("127.0.0.1", service.port))
        client.settimeout(30)
        if used:
            exchange(client)
        clients.append(client)
    return clients


def exchange(client: socket.socket) -> str:
    client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
    received = b""
    while b"\r\n\r\n" not in received or not received.partition(b"\r\n\r\n")[2]:
        chunk = client.recv(65536)
        assert chunk, "the server closed a connection that it could keep"
        received += chunk
    assert received.startswith(b"HTTP/1.1 200"), received
    assert b"connection: close" not in received.lower()
    return received.partition(b"\r\n\r\n")[2].decode()


@pytest.mark.parametrize("threads", [0, 4])
def test_idle_and_silent_connections_move_to_the_new_generation(make_service: MakeService, threads: int) -> None:
    service = make_service(threads=threads).start()
    clients = idle_connections(service, 20, used=True) + idle_connections(service, 20, used=False)
    service.deploy("2")
    assert service.reload().returncode == 0
    service.wait_for_status("^Serving: 2 workers, generation 2; reloaded at ")
    # For 20 s nothing is heard of them, least of all an end.
    assert select.select(clients, [], [], 20) == ([], [], [])
    assert [exchange(client).split()[2:] for client in clients] == [["2", "2"]] * 40
    for client in clients:
        client.close()


def test_they_move_back_when_the_rollout_is_withdrawn(make_service: MakeService) -> None:
    service = make_service(rollout={"settle": "3s"}, preload=False).start()
    clients = idle_connections(service, 10, used=True)
    service.deploy("2")
    service.signal(signal.SIGHUP)
    service.wait_for_status("1 of 2 workers replaced")
    assert len(service.workers("retired")) == 1
    # Without preloading the second successor imports what is on disk when its turn comes.
    service.deploy("3", "raise RuntimeError('broken')\n")
    service.wait_for_status("^Serving: 2 workers, generation 1.*FAILED.*broken")
    service.wait_for_line("worker ended.*generation=2.*reason=withdrawn")
    assert [exchange(client).split()[3] for client in clients] == ["1"] * 10
    for client in clients:
        client.close()


STREAM = """
import os, time
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    while environ["PATH_INFO"] == "/stream":
        yield b"data: x\\n\\n"
        time.sleep(0.05)
    yield f"{os.getpid()} {os.environ['CLUSTERD_WORKER']} {os.environ['CLUSTERD_GENERATION']} VERSION".encode()
"""


def test_a_client_that_streams_for_ever_holds_up_no_rollout(make_service: MakeService) -> None:
    service = make_service(timeouts={"drain": "60s"}, rollout={"settle": "0ms", "max_draining": 2})
    service.deploy("1", STREAM)
    service.start()
    streams = []
    for generation in range(2, 5):
        client = socket.create_connection(("127.0.0.1", service.port))
        client.settimeout(30)
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(100)
        streams.append(client)
        service.deploy(str(generation), STREAM)
        assert service.reload().returncode == 0
        assert service.ask().generation == generation
    # The first of three draining generations is one too many.
    wait_until(lambda: ended(streams[0]), "the oldest generation is ended")
    assert "max_draining" in service.log()
    service.wait_for_line("request cut at the end of the drain generation=1 .*target=/stream")
    service.wait_for_line("worker ended.* generation=1 .*reason=max_draining")
    for client in streams:
        client.close()


def ended(client: socket.socket) -> bool:
    try:
        return client.recv(65536) == b""
    except ConnectionError:
        return True


def descriptors(pid: int) -> list[str]:
    return sorted(each.split(":")[0] for each in open_files(pid).values())


@pytest.mark.engine_independent
def test_forty_reloads_leak_no_descriptor_and_no_process(make_service: MakeService) -> None:
    service = make_service().start()
    kept = idle_connections(service, 1, used=True)[0]
    assert service.reload().returncode == 0
    before = steady_state(service)
    for _ in range(40):
        assert service.ask_to_reload()["succeeded"]
    assert wait_until(lambda: steady_state(service) == before, "the master is back where it was")
    assert exchange(kept).split()[2] == "42"
    kept.close()


def steady_state(service: Service) -> tuple[list[str], int]:
    """The master's descriptors and the number of its processes, once every drain is over."""
    service.wait_for_status(r"^Serving: 2 workers, generation \d+; reloaded at ")
    wait_until(lambda: len(descendants(service.pid)) == 4, "a template, a spare and two workers")
    return descriptors(service.pid), len(descendants(service.pid))


def test_a_long_import_stalls_nobody_and_is_not_given_up(make_service: MakeService) -> None:
    service = make_service().start()
    service.deploy("2", "import time\ntime.sleep(4)\n" + HELLO)
    with ThreadPoolExecutor(1) as pool:
        reload = pool.submit(service.reload)
        answered = []
        while not reload.done():
            answered.append(service.ask().version)
    assert reload.result().returncode == 0
    # Far more than if the reload had held up one in every ten.
    assert answered.count("1") > 50
    assert service.ask().version == "2"


SECURE = """
def app(environ, start_response):
    if environ.get("HTTP_X_FORWARDED_PROTO") != "https":
        start_response("301 Moved", [("Location", "https://shop.example/up"), ("Content-Length", "0")])
        return []
    start_response("200 OK", [("Content-Length", "1")])
    return [b"x"]
"""


def test_a_health_check_says_what_a_proxy_would_say(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.deploy("1", SECURE)
    check = {"path": "/up", "headers": ["X-Forwarded-Proto: https"]}
    service.configure(rollout={"settle": "0ms", "health_check": check})
    service.start()
    service.configure(rollout={"settle": "0ms", "health_check": {"path": "/up"}})
    done = service.reload()
    assert done.returncode == 1
    assert "health check /up: answered 301, expected 2xx; Location: https://shop.example/up" in done.stderr

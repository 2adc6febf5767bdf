"""Start, first answers, stop: and every way in which a start can go wrong."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.processes import descendants
from tests.support.service import HELLO, Service, wait_until

MakeService = Callable[..., Service]


@pytest.mark.parametrize("threads", [0, 4])
def test_serves_with_one_worker_a_slot_and_stops_with_nothing_left(make_service: MakeService, threads: int) -> None:
    service = make_service(workers=2, threads=threads).start()
    workers = service.workers()
    assert [(worker["slot"], worker["generation"]) for worker in workers] == [(1, 1), (2, 1)]
    answer = service.ask()
    assert answer.pid in {worker["pid"] for worker in workers}
    assert answer.generation == 1
    family = descendants(service.pid)
    assert service.stop() == 0
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]
    assert not service.control.exists()


def test_the_processes_have_titles(make_service: MakeService) -> None:
    service = make_service(workers=1).start()
    spare = wait_until(
        lambda: [pid for pid in descendants(service.pid) if "spare" in title(pid)], "a spare template appears"
    )
    assert title(service.pid) == "clusterd: master"
    titles = {title(pid) for pid in descendants(service.pid)}
    assert titles == {"clusterd: template gen 1", "clusterd: spare gen 1", "clusterd: worker 1 gen 1"}
    worker = service.workers()[0]["pid"]
    assert Path(f"/proc/{worker}/comm").read_text().strip() == "clusterd-w1"
    assert len(spare) == 1


def title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def test_the_master_imports_neither_the_application_nor_the_engine(make_service: MakeService) -> None:
    service = make_service(workers=1).start()
    mapped = Path(f"/proc/{service.pid}/maps").read_text()
    assert "uvloop" not in mapped


def test_a_start_that_can_not_import_ends_with_the_traceback_and_status_70(make_service: MakeService) -> None:
    service = make_service()
    service.deploy("1", "def broken(:\n")
    service.start(wait=False)
    assert service.wait() == 70
    assert "SyntaxError" in service.log()
    assert "app.py" in service.log()
    assert service.log().count("Traceback") <= 1


def test_a_port_in_use_is_named_and_no_traceback_shown(make_service: MakeService) -> None:
    service = make_service()
    with socket.create_server(("127.0.0.1", service.port)):
        service.start(wait=False)
        assert service.wait() == 75
    assert f"127.0.0.1:{service.port}: the address is in use" in service.log()
    assert "Traceback" not in service.log()


def test_what_is_in_the_way_of_a_unix_socket_is_told_apart(make_service: MakeService, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    for path, why in (("file", "which is no socket"), ("absent/sock", "its directory does not exist")):
        service = make_service(listen=[f"unix:{tmp_path}/{path}"])
        service.start(wait=False)
        assert service.wait() == 75
        assert f"listen: cannot listen on unix:{tmp_path}/{path}: " in service.log()
        assert why in service.log()
    assert (tmp_path / "file").read_text() == "kept"


def test_an_instance_has_its_metrics_in_its_runtime_directory(make_service: MakeService, tmp_path: Path) -> None:
    service = make_service()
    service.environment = {"CLUSTERD_INSTANCE": "blog", "RUNTIME_DIRECTORY": str(tmp_path)}
    service.config.write_text(
        f"app: app:app\nlisten: ['127.0.0.1:{service.port}']\ncontrol: {service.control}\nworkers: 1\n"
    )
    service.start()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "metrics.sock"))
        client.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
    assert f"metrics.address: unix:{tmp_path}/metrics.sock" in service.log()


def test_an_instance_is_named_in_titles_log_and_status(make_service: MakeService, tmp_path: Path) -> None:
    service = make_service(workers=1, hooks="hooks")
    service.environment = {"CLUSTERD_INSTANCE": "a-shop-with-a-long-name", "RUNTIME_DIRECTORY": str(tmp_path)}
    (service.directory / "hooks.py").write_text(
        "from clusterd import cluster\n@cluster.on('fork')\ndef forked(worker): ...\n"
    )
    service.start()
    name = "clusterd@a-shop-with-a-long-name"
    wait_until(lambda: any("spare" in title(pid) for pid in descendants(service.pid)), "a spare template appears")
    assert title(service.pid) == f"{name}: master"
    named = {"hooks gen 1", "template gen 1", "spare gen 1", "worker 1 gen 1"}
    assert {title(pid) for pid in descendants(service.pid)} == {f"{name}: {each}" for each in named}
    worker = service.workers()[0]["pid"]
    assert Path(f"/proc/{worker}/comm").read_text().strip() == "clusterd-w1"
    assert service.clusterctl("status").stdout.startswith(f"{name}: Serving: 1 worker, ")
    state = service.describe()
    assert state is not None and state["instance"] == "a-shop-with-a-long-name"
    assert service.stop() == 0
    assert all(f" {name}[" in line for line in service.lines)


def test_clusterctl_reaches_the_service_whatever_is_wrong_with_its_file(make_service: MakeService) -> None:
    service = make_service().start()
    service.config.write_text(f"control: {service.control}\napp: app:app\nwokers: 3\n")
    command = [sys.executable, "-m", "clusterd.cli.clusterctl", "--config", str(service.config)]
    done = subprocess.run([*command, "reload"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "serves on" in done.stderr
    assert "did you mean 'workers'?" in done.stderr


def test_a_bad_file_is_status_78_with_the_place(make_service: MakeService) -> None:
    service = make_service()
    service.config.write_text("app: app:app\nwokers: 3\n")
    service.start(wait=False)
    assert service.wait() == 78
    assert "clusterd.yaml:2:1" in service.log()
    assert "'workers'" in service.log()


SLOW = """
import os, time
def app(environ, start_response):
    open(os.environ["STARTED"], "w").close()
    while not os.path.exists(os.environ["GO"]):
        time.sleep(0.01)
    start_response("200 OK", [("Content-Length", "4")])
    return [b"done"]
"""


def test_a_stop_answers_the_requests_in_flight(make_service: MakeService, tmp_path: Path) -> None:
    started, go = tmp_path / "started", tmp_path / "go"
    service = make_service(environment={"STARTED": str(started), "GO": str(go)})
    service.deploy("1", SLOW)
    service.start()
    with socket.create_connection(("127.0.0.1", service.port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(started.exists, "the request arrives")
        service.signal(signal.SIGTERM)
        wait_until(
            lambda: (draining := service.workers("draining")) and not any(each["accepting"] for each in draining),
            "the workers drain",
        )
        go.touch()
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"done")
    assert b"connection: close" in answer.lower()
    assert service.wait() == 0


@pytest.fixture
def slow(make_service: MakeService, tmp_path: Path) -> Iterator[tuple[Service, socket.socket]]:
    """A service with a request in-flight that ends when the file `go` exists, and its client."""
    started = tmp_path / "started"
    service = make_service(environment={"STARTED": str(started), "GO": str(tmp_path / "go")})
    service.deploy("1", SLOW)
    service.start()
    with socket.create_connection(("127.0.0.1", service.port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(started.exists, "the request arrives")
        yield service, client


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT, signal.SIGURG])
def test_a_term_cuts_nothing_however_often_it_comes(
    slow: tuple[Service, socket.socket], tmp_path: Path, first: signal.Signals
) -> None:
    service, client = slow
    service.signal(first)
    for _ in range(5):
        service.wait_for_line("worker draining")
        service.signal(signal.SIGTERM)
        service.workers()  # It has answered, so that it has had the signal before.
    (tmp_path / "go").touch()
    answer = b""
    while chunk := client.recv(65536):
        answer += chunk
    assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"done")
    assert service.wait() == 0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (signal.SIGTERM, signal.SIGQUIT),
        (signal.SIGTERM, signal.SIGINT),
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGTERM, "--now"),
        (None, signal.SIGQUIT),
        (None, "--now"),
    ],
)
def test_an_end_at_once_is_asked_for(
    slow: tuple[Service, socket.socket], first: signal.Signals | None, second: signal.Signals | str
) -> None:
    service, client = slow
    if first is not None:
        service.signal(first)
        service.wait_for_line("worker draining")
    if isinstance(second, str):
        assert service.clusterctl("stop", second).returncode == 0
    else:
        service.signal(second)
    assert service.wait() == 0
    assert client.recv(65536) == b""


def test_more_and_fewer_workers_by_signal(make_service: MakeService) -> None:
    service = make_service(workers=1).start()
    service.signal(signal.SIGTTIN)
    service.wait_for_status(r"^Serving: 2 workers")
    service.signal(signal.SIGTTOU)
    service.wait_for_status(r"^Serving: 1 worker,")
    assert [worker["slot"] for worker in service.workers()] == [1]


def test_state_is_written_to_the_log_on_usr1(make_service: MakeService) -> None:
    service = make_service(workers=1).start()
    service.signal(signal.SIGUSR1)
    assert service.wait_for_line("slot=1 generation=1 .*state=ready")


def test_orphans_of_the_application_are_reaped(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.deploy(
        "1",
        "import os\n"
        "def app(environ, start_response):\n"
        "    if os.fork() == 0:\n"
        "        if os.fork() == 0:\n"
        "            os._exit(0)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "    start_response('200 OK', [])\n"
        "    return [b'x']\n",
    )
    service.start()
    assert service.get().status_code == 200
    wait_until(
        lambda: "clusterd_strays_reaped_total 1.0" in service.metrics().text or "Z" not in states(service.pid),
        "the orphan is reaped",
    )
    assert "Z" not in states(service.pid)


def states(pid: int) -> str:
    found = ""
    for each in descendants(pid):
        try:
            found += Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
    return found


def test_ctrl_c_drains_and_ends_with_0(make_service: MakeService) -> None:
    service = make_service(workers=1).start()
    service.signal(signal.SIGINT)
    assert service.wait() == 0


def test_what_the_application_prints_arrives(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.deploy(
        "1",
        "print('imported')\n"
        "def app(environ, start_response):\n"
        "    print('called')\n"
        "    start_response('200 OK', [])\n"
        "    return [b'x']\n",
    )
    service.start()
    assert service.get().status_code == 200
    service.wait_for_line("^called$")
    assert service.lines.count("imported") == 1


def test_every_worker_has_random_numbers_of_its_own(make_service: MakeService) -> None:
    service = make_service(workers=2)
    (service.directory / "numpy.py").write_text(
        "import random as _random\n"
        "class random:\n"
        "    number = 7\n"
        "    @classmethod\n"
        "    def seed(cls):\n"
        "        cls.number = _random.SystemRandom().random()\n"
    )
    service.deploy("1", "import random, numpy\n" + HELLO.replace("VERSION", "{random.random()}/{numpy.random.number}"))
    service.start()
    told: dict[int, str] = {}
    wait_until(lambda: told.setdefault((each := service.ask()).slot, each.version) and len(told) == 2, "both answer")
    assert all(one != other for one, other in zip(*(version.split("/") for version in told.values()), strict=True))
    assert "7" not in {version.split("/")[1] for version in told.values()}

"""The first start of an application that cannot start yet, and of one that never can."""

import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from clusterd.cli.failed_start import RECORD, FailedStart, Stage, leave, take
from clusterd.supervisor.decisions.stopping import ExitStatus
from tests.support.passed import pass_to
from tests.support.processes import descendants
from tests.support.service import HELLO, PATIENCE_SECONDS, Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]

NEEDS_A_FILE = """
import pathlib
def connect():
    if not pathlib.Path("database").exists():
        raise ConnectionError("the database is not up")
"""
AT_IMPORT = NEEDS_A_FILE + "connect()\n" + HELLO
IN_THE_WORKER = NEEDS_A_FILE + HELLO
LIFESPAN = (
    NEEDS_A_FILE
    + """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        try:
            connect()
        except ConnectionError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = f"{os.getpid()} {os.environ['CLUSTERD_WORKER']} {os.environ['CLUSTERD_GENERATION']} VERSION".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
import os
"""
)


@pytest.mark.parametrize(
    ("source", "settings"),
    [
        (AT_IMPORT, {}),
        (AT_IMPORT, {"preload": False}),
        (AT_IMPORT + "import threading; threading.Thread(target=input, daemon=True).start()\n", {}),
        (IN_THE_WORKER, {"worker_start": "app:connect"}),
        (LIFESPAN, {}),
    ],
    ids=["import", "import in the workers", "not preloadable", "worker_start", "lifespan"],
)
def test_what_is_not_up_yet_is_waited_for(make_service: MakeService, source: str, settings: dict[str, object]) -> None:
    service = make_service(workers=2, **settings)
    service.deploy("1", source)
    service.start(wait=False)
    service.wait_for_status(r"^Starting: .*attempt [3-9]; the last one failed: .*the database is not up")
    assert service.describe() is not None, "it can be asked"
    assert service.metrics("/readyz").status_code == 503
    (service.directory / "database").touch()
    service.wait_for_status(r"^Serving: 2 workers")
    assert service.ask().version == "1"
    assert service.reload().returncode == 0
    assert service.stop() == 0


def test_a_health_check_that_fails_is_repeated_with_the_next_worker(make_service: MakeService) -> None:
    failing = HELLO.replace('"200 OK"', '"200 OK" if os.path.exists("database") else "503 Not yet"')
    service = make_service(workers=1, rollout={"settle": "0ms", "health_check": {"path": "/"}})
    service.deploy("1", failing)
    service.start(wait=False)
    # That clusterd has killed this worker is no news, and would look like the kernel's doing.
    service.wait_for_line(r"worker failed: health check /: answered 503[^(]*; trying again in 0\.\d s")
    (service.directory / "database").touch()
    service.wait_for_status(r"^Serving: 1 worker,")


def test_an_import_that_dies_is_repeated(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.deploy("1", "import os\nif not os.path.exists('database'): os.abort()\n" + HELLO)
    service.start(wait=False)
    service.wait_for_line("start attempt 2 failed, trying again in 2 s: .*died while it imported .*SIGABRT")
    (service.directory / "database").touch()
    service.wait_for_status(r"^Serving: 1 worker,")


@pytest.mark.parametrize(
    ("source", "settings", "says"),
    [
        ("def broken(:\n", {}, "SyntaxError"),
        ("import a_module_that_is_not_there\n", {}, "ModuleNotFoundError"),
        ("application = print\n", {}, "has no attribute 'app'"),
        ("app = 5\n", {}, "is of type int and cannot be called"),
        (HELLO + "def prepare():\n    import not_installed\n", {"worker_start": "app:prepare"}, "ModuleNotFoundError"),
        (HELLO, {"worker_start": "app:prepare"}, "has no attribute 'prepare'"),
    ],
)
def test_what_can_never_start_ends_at_once(
    make_service: MakeService, source: str, settings: dict[str, object], says: str
) -> None:
    service = make_service(workers=1, **settings)
    service.deploy("1", source)
    service.start(wait=False)
    assert service.wait() == 70
    assert says in service.log()
    assert service.log().count("Traceback") <= 1
    assert "trying again" not in service.log()


def test_an_attribute_error_in_the_application_may_mend(make_service: MakeService) -> None:
    service = make_service(workers=1, app="app:make()")
    service.deploy("1", "def make():\n    return None.connect()\n")
    service.start(wait=False)
    service.wait_for_line("start attempt 1 failed, trying again in 1 s: .*AttributeError")
    assert service.stop() == 0


@pytest.mark.parametrize("source", [AT_IMPORT, IN_THE_WORKER])
def test_a_signal_has_it_tried_at_once_with_what_is_on_disk_now(make_service: MakeService, source: str) -> None:
    service = make_service(workers=2, worker_start="app:connect")
    service.deploy("1", source)
    service.start(wait=False)
    service.wait_for_status(r"^Starting: .*attempt [4-9]; ")
    service.deploy("2", HELLO + "\ndef connect(): pass\n")
    service.signal(signal.SIGHUP)
    service.wait_for_status(r"^Serving: 2 workers")
    assert service.ask().version == "2"


CHANGED = {"workers": 3, "log": {"level": "debug"}, "environment": {"DATABASE": "elsewhere"}}
NEEDS_A_VARIABLE = "import os\nif 'DATABASE' not in os.environ: raise ConnectionError('not here')\n" + HELLO


@pytest.mark.parametrize("by_signal", [True, False], ids=["asked", "by itself"])
def test_the_next_attempt_is_made_with_the_configuration_that_is_on_disk(
    make_service: MakeService, *, by_signal: bool
) -> None:
    service = make_service(workers=2)
    service.deploy("1", NEEDS_A_VARIABLE)
    service.start(wait=False)
    service.wait_for_status(r"^Starting: .*attempt 3; .*not here")
    service.configure(**CHANGED)
    if by_signal:
        service.signal(signal.SIGHUP)
    service.wait_for_status(r"^Serving: 3 workers")
    assert "log.level: debug" in service.clusterctl("config").stdout.splitlines()
    assert service.ask().version == "1"


def test_a_configuration_that_is_wrong_by_now_is_told_and_mended_without_a_restart(make_service: MakeService) -> None:
    service = make_service(workers=2)
    service.deploy("1", NEEDS_A_VARIABLE)
    service.start(wait=False)
    service.wait_for_line("start attempt 1 failed")
    service.configure(**CHANGED, no_such_setting=1)
    service.wait_for_status(r"^Starting: .*no_such_setting")
    service.wait_for_line(r"error: .*clusterd.yaml:\d+:\d+: .*no_such_setting")
    service.configure(**CHANGED, no_such_setting=None)
    service.signal(signal.SIGHUP)
    service.wait_for_status(r"^Serving: 3 workers")


def test_a_start_that_waits_can_be_stopped(make_service: MakeService) -> None:
    service = make_service()
    service.deploy("1", AT_IMPORT)
    service.start(wait=False)
    service.wait_for_line("start attempt 1 failed")
    assert service.stop() == 0


def test_a_stop_does_not_wait_for_clients_whom_no_worker_can_answer(
    make_service: MakeService, clients: ExitStack
) -> None:
    service = make_service(timeouts={"drain": "1h"})  # the stop used to wait for half of it
    service.deploy("1", AT_IMPORT)
    service.start(wait=False)
    service.wait_for_line("start attempt 1 failed")
    waiting = clients.enter_context(socket.create_connection(("127.0.0.1", service.port)))
    waiting.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert service.stop() == 0


# ---- what one process leaves to the next


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """What stands for systemd: NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        yield notify


def as_a_unit(service: Service, tmp_path: Path) -> Service:
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    service.environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "RUNTIME_DIRECTORY": str(runtime)}
    return service


def failed_before(tmp_path: Path, stage: Stage, status: ExitStatus) -> Path:
    """What a process has left that failed a moment ago, after many others: the next one waits for half a minute."""
    directory = tmp_path / "runtime"
    assert leave(str(directory), FailedStart(stage, status, 9, time.monotonic(), 30.0, "why it failed"))
    return directory / RECORD


def test_a_start_that_fails_before_there_is_a_master_is_remembered(
    make_service: MakeService, manager: socket.socket, tmp_path: Path
) -> None:
    service = as_a_unit(make_service(), tmp_path)
    with socket.create_server(("127.0.0.1", service.port)):
        for attempt in (1, 2):
            service.start(wait=False)
            assert service.wait() == 75
            assert json.loads((tmp_path / "runtime" / RECORD).read_text())["failures"] == attempt
    service.start()
    assert not (tmp_path / "runtime" / RECORD).exists(), "what has succeeded is forgotten"


def test_the_pause_before_the_next_start_ends_with_a_signal_and_the_failure_is_forgotten(
    make_service: MakeService, manager: socket.socket, tmp_path: Path
) -> None:
    service = as_a_unit(make_service(), tmp_path)
    record = failed_before(tmp_path, Stage.PREPARING, ExitStatus.TEMPORARY)
    service.start(wait=False)
    service.wait_for_line(r"the last start failed, trying again in \d+\.\d s: why it failed")
    assert service.stop() == 0
    assert not record.exists()


def test_a_hangup_ends_the_pause_before_the_next_start(
    make_service: MakeService, manager: socket.socket, tmp_path: Path
) -> None:
    service = as_a_unit(make_service(), tmp_path)
    failed_before(tmp_path, Stage.PREPARING, ExitStatus.TEMPORARY)
    service.start(wait=False)
    service.wait_for_line("the last start failed, trying again in")
    service.signal(signal.SIGHUP)
    service.wait_for_status(r"^Serving: ")
    assert "the last start failed" not in service.log().partition("clusterd starts")[2], "nor does the master wait"


def test_a_master_waits_for_the_next_attempt_with_its_application_and_can_be_asked_meanwhile(
    make_service: MakeService, manager: socket.socket, tmp_path: Path
) -> None:
    service = as_a_unit(make_service(), tmp_path)
    record = failed_before(tmp_path, Stage.APPLICATION, ExitStatus.TEMPORARY)
    service.start(wait=False)
    service.wait_for_status("^Starting: waiting until .*, attempt 10; the last one failed: why it failed")
    assert service.metrics("/readyz").status_code == 503
    service.signal(signal.SIGHUP)
    service.wait_for_status(r"^Serving: ")
    assert not record.exists()


def test_a_start_that_was_left_failed_is_made_at_once_unless_a_client_waits(
    make_service: MakeService, manager: socket.socket, tmp_path: Path
) -> None:
    service = as_a_unit(make_service(), tmp_path)
    failed_before(tmp_path, Stage.APPLICATION, ExitStatus.APPLICATION)
    service.start()
    assert service.stop() == 0
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        failed_before(tmp_path, Stage.APPLICATION, ExitStatus.APPLICATION)
        pass_to(service, listener)
        service.start(wait=False)
        service.wait_for_status("^Starting: waiting until .*, attempt 10; the last one failed: why it failed")
        assert service.stop() == 0


def test_a_record_that_is_not_understood_holds_up_nothing(
    make_service: MakeService, manager: socket.socket, tmp_path: Path
) -> None:
    service = as_a_unit(make_service(), tmp_path)
    for text in ("", "[]", "{}", '{"stage": "unheard of"}', '{"stage": "application", "more": 1}'):
        (tmp_path / "runtime" / RECORD).write_text(text)
        assert take(str(tmp_path / "runtime")) is None
    assert service.start().stop() == 0


def test_a_failure_that_can_not_be_remembered_leaves_the_pause_to_systemd(
    make_service: MakeService, manager: socket.socket, tmp_path: Path
) -> None:
    service = as_a_unit(make_service(), tmp_path)
    (tmp_path / "runtime").rmdir()
    service.deploy("1", "def broken(:\n")
    service.start(wait=False)
    assert service.wait() == ExitStatus.TEMPORARY, "78 and 70 are not in RestartSec='s hands"


HANGS = "import pathlib, threading\npathlib.Path('hangs').touch()\nthreading.Event().wait()\n"


@pytest.mark.parametrize(
    ("source", "settings"),
    [
        (HANGS, {}),
        (HANGS, {"preload": False}),
        (HELLO + "def prepare():\n    " + HANGS.replace("\n", "\n    "), {"worker_start": "app:prepare"}),
    ],
    ids=["import", "import in the workers", "worker_start"],
)
def test_what_gets_ready_ends_with_its_master(
    make_service: MakeService, source: str, settings: dict[str, object]
) -> None:
    service = make_service(workers=1, **settings)
    service.deploy("1", source)
    service.start(wait=False)
    wait_until((service.directory / "hangs").exists, "something gets ready")
    descriptors = [os.pidfd_open(pid) for pid in descendants(service.pid)]
    assert descriptors
    service.signal(signal.SIGKILL)
    for descriptor in descriptors:
        assert select.select([descriptor], [], [], PATIENCE_SECONDS)[0], "or the next master would have to wait for it"
        os.close(descriptor)

"""`clusterd --check`: one worker is booted, asked and ended for real, and serves nobody."""

import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.checking import check
from tests.support.endings import ASGI, NOTE
from tests.support.service import HELLO, Service

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]

GOOD = "the configuration is good; a worker starts"
NO_REQUEST = f"{GOOD}; no request was tried, because rollout.health_check is not set\n"
UP = {"health_check": {"path": "/up"}}


def test_check_says_what_is_wrong_with_the_application(make_service: MakeService) -> None:
    service = make_service()
    assert check(service).returncode == 0
    service.deploy("1", "import nothing_of_that_name\n")
    done = check(service)
    assert done.returncode == 1
    assert "nothing_of_that_name" in done.stderr + done.stdout
    service.deploy("1")
    service.configure(worker_start="app:nothing")
    assert "worker_start: app:nothing" in check(service).stderr
    service.config.write_text("app: [\n")
    done = check(service)
    assert done.returncode == 78
    assert done.stderr.startswith(f"{service.config}:2:1: ")


def test_check_says_that_the_interpreter_is_none_as_it_says_other_mistakes_in_the_file(
    make_service: MakeService,
) -> None:
    done = check(make_service(python="/bin/false"))
    assert done.returncode == 78
    assert done.stderr.startswith("python: /bin/false cannot run a template")


def test_check_warns_of_a_service_that_nobody_could_connect_to_unless_systemd_sees_to_it(
    make_service: MakeService,
) -> None:
    service = make_service(listen=[])
    done = check(service)
    assert done.returncode == 0
    assert done.stderr == (
        "warning: listen: there is nothing to listen on, unless systemd passes sockets; "
        "name an address in listen: or in tls.listen:\n"
    )
    service.configure(app=None, run="app:app")
    assert "nothing to listen on" not in check(service).stderr


def test_a_module_that_another_interpreter_may_have_is_said_to_be_looked_for_there(make_service: MakeService) -> None:
    service = make_service()
    service.deploy("1", "import nothing_of_that_name\n")
    python = service.directory / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    first, *_ = check(service).stderr.splitlines()
    assert first.endswith(f"does not have it (python: {python} would use the virtual environment there)")


# ---- a worker

LIVED = """
import atexit
note(f"import {__import__('os').environ.get('CLUSTERD_WORKER')}")
def begin():
    note(f"worker_start {os.environ['CLUSTERD_WORKER']}")
    atexit.register(note, "exit handler")
def end():
    note("worker_stop")
async def answer(path):
    note(path)
    return "up"
"""


@pytest.mark.parametrize("preload", [True, False])
def test_a_worker_lives_a_whole_life(make_service: MakeService, tmp_path: Path, preload: bool) -> None:
    notes = tmp_path / "notes"
    service = make_service(worker_start="app:begin", worker_stop="app:end", rollout=UP, preload=preload)
    service.deploy("1", f"NOTES = {str(notes)!r}\n{NOTE}{LIVED}{ASGI}")
    done = check(service)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{GOOD} and answers the health check /up\n"
    imported, *of_worker = (line.split(maxsplit=1) for line in notes.read_text().splitlines())
    assert imported[1] == ("import None" if preload else "import 1")
    assert [what for _, what in of_worker] == [
        "worker_start 1",
        "lifespan.startup",
        "/up",
        "lifespan.shutdown",
        "worker_stop",
        "exit handler",
    ]
    assert len({pid for pid, _ in of_worker}) == 1
    assert (imported[0] == of_worker[0][0]) is not preload


def test_what_cannot_be_forked_is_imported_by_the_worker(make_service: MakeService) -> None:
    service = make_service()
    service.deploy(
        "1", f"import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n{HELLO}"
    )
    assert check(service).stdout == NO_REQUEST


BY_HOST = """
def app(environ, start_response):
    known = environ["HTTP_HOST"] == "shop.example"
    start_response("200 OK" if known else "400 Bad Request", [("Content-Type", "text/html")])
    return [b"\\n<h1>Bad Request (400)</h1>\\n<p>more</p>"]
"""


def test_the_health_check_is_a_real_request(make_service: MakeService) -> None:
    service = make_service(rollout=UP)
    service.deploy("1", BY_HOST)
    done = check(service)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "the worker failed: health check /up: answered 400, expected 2xx; <h1>Bad Request (400)</h1>\n"
    )
    service.configure(rollout={"health_check": {"path": "/up", "host": "shop.example"}})
    assert check(service).returncode == 0


IN_CHUNKS = """
def app(environ, start_response):
    start_response("400 Bad Request", [("Content-Type", "text/html")])
    yield b"\\n<h1>Bad "
    yield b"Request (400)</h1>\\n"
    yield b"x" * 100000
"""


def test_what_a_refused_health_check_shows_is_the_body_and_not_its_framing(make_service: MakeService) -> None:
    service = make_service(rollout=UP)
    service.deploy("1", IN_CHUNKS)
    done = check(service)
    assert done.stderr == (
        "the worker failed: health check /up: answered 400, expected 2xx; <h1>Bad Request (400)</h1>\n"
    )


WHOLE_PAGE = """
def app(environ, start_response):
    start_response("500 Internal Server Error", [("Content-Type", "text/html")])
    return [b"<!doctype html>\\n<html lang='en'>\\n<head>\\n  <title>Server Error (500)</title>\\n</head>\\n"]
"""


def test_a_refused_health_check_shows_the_line_of_a_page_that_says_something(make_service: MakeService) -> None:
    service = make_service(rollout=UP)
    service.deploy("1", WHOLE_PAGE)
    assert check(service).stderr == (
        "the worker failed: health check /up: answered 500, expected 2xx; <title>Server Error (500)</title>\n"
    )


HINTS_FIRST = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    await send({"type": "http.response.early_hint", "links": [b"</" + b"a" * 5000 + b">; rel=preload"]})
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"up"})
"""


def test_early_hints_are_not_taken_for_the_answer_of_a_health_check(make_service: MakeService) -> None:
    service = make_service(rollout=UP)
    service.deploy("1", HINTS_FIRST)
    done = check(service)
    assert (done.returncode, done.stderr) == (0, "")


DJANGO = """
from django.conf import settings
settings.configure(ROOT_URLCONF="urls", ALLOWED_HOSTS=["localhost"])
from django.core.wsgi import get_wsgi_application
app = get_wsgi_application()
"""


def test_views_that_do_not_import_fail_the_request(make_service: MakeService) -> None:
    service = make_service()
    service.deploy("1", DJANGO)
    (service.directory / "urls.py").write_text("import views_of_that_name\nurlpatterns = []\n")
    assert check(service).stdout == NO_REQUEST
    service.configure(rollout=UP)
    done = check(service)
    assert done.returncode == 1
    assert "ModuleNotFoundError: No module named 'views_of_that_name'" in done.stderr
    assert "\nthe worker failed: health check /up: answered 500, expected 2xx; " in done.stderr


FAILING = """
def begin():
    BEGIN
def end():
    raise RuntimeError("not so soon")
def app(environ, start_response):
    import ctypes
    ctypes.string_at(0)
"""


def test_a_worker_that_dies_is_a_failure(make_service: MakeService) -> None:
    service = make_service(worker_start="app:begin")
    service.inside = ("prlimit", "--core=0")
    service.deploy("1", FAILING.replace("BEGIN", "import os; os.kill(os.getpid(), 9)"))
    done = check(service)
    assert (done.returncode, done.stderr) == (1, "the worker failed: SIGKILL\n")
    service.configure(worker_start=None, rollout=UP)
    done = check(service)
    assert done.returncode == 1
    assert re.search(r"^the worker failed: health check /up: .*\(SIGSEGV.*\)$", done.stderr, re.MULTILINE)
    assert 'app.py", line 8 in app' in done.stderr


def test_a_worker_that_does_not_become_ready_is_shown_where_it_waits(make_service: MakeService) -> None:
    service = make_service(worker_start="app:begin", rollout={"boot_timeout": "8s"})
    service.deploy("1", FAILING.replace("BEGIN", "import time; time.sleep(1000)"))
    done = check(service)
    assert done.returncode == 1
    assert done.stderr.startswith("the worker failed: not ready within rollout.boot_timeout (8 s)\n")
    assert 'app.py", line 3 in begin' in done.stderr


def test_a_worker_that_does_not_end_well_is_a_warning(make_service: MakeService) -> None:
    service = make_service(worker_stop="app:end")
    service.deploy("1", FAILING.replace("BEGIN", "pass"))
    done = check(service)
    assert (done.returncode, done.stdout) == (0, NO_REQUEST)
    assert "worker_stop: app:end: RuntimeError: not so soon (" in done.stderr
    assert done.stderr.endswith("warning: the worker failed when it was told to end: exit status 1\n")


def test_a_worker_that_asks_the_master_is_told_that_it_is_a_check(make_service: MakeService) -> None:
    service = make_service(rollout=UP)
    asking = """
from clusterd import worker
async def app(scope, receive, send):
    assert scope["type"] == "http"
    worker.send("said")
    await worker.request("asked")
"""
    service.deploy("1", asking)
    done = check(service)
    assert done.returncode == 1
    assert "RequestFailed: clusterd --check answers no requests of workers" in done.stderr


# ---- and what is not done


def test_a_job_is_imported_and_not_run(make_service: MakeService) -> None:
    service = make_service(app=None, run="app:work", listen=[])
    service.deploy("1", "def work():\n    raise SystemExit('it was called')\n")
    done = check(service)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "the configuration is good; app:work imports, and was not called\n"
    service.deploy("1", "def work(what): ...\n")
    done = check(service)
    assert (done.returncode, done.stderr) == (1, NOT_WITHOUT)


NOT_WITHOUT = "the application could not be loaded: run: app:work takes (what), and is called without arguments\n"


def test_a_service_that_runs_does_not_notice(make_service: MakeService, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    service = make_service(rollout=UP).start()
    before, files = service.describe(), sorted(service.directory.iterdir())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        done = check(service, NOTIFY_SOCKET=str(tmp_path / "notify"), STATE_DIRECTORY=str(state))
        assert done.returncode == 0
        with pytest.raises(BlockingIOError):
            manager.recv(1)
    after = service.describe()
    assert before is not None and after is not None
    assert [each["pid"] for each in after["workers"]] == [each["pid"] for each in before["workers"]]
    assert sorted(service.directory.iterdir()) == files
    assert list(state.iterdir()) == []
    assert {service.ask().pid for _ in range(10)} <= {each["pid"] for each in before["workers"]}

"""The application under an interpreter of its own (`python:`), of another version than the master's."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.interpreters import RUNNING, Version, install, interpreters, others, virtual_environment
from tests.support.service import HELLO, Service, wait_until

MakeService = Callable[..., Service]

OLDEST = (3, 11)
ASGI = """
import asyncio, os, sys
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await receive()
    WAIT
    body = f"{os.getpid()} {os.environ['CLUSTERD_WORKER']} {os.environ['CLUSTERD_GENERATION']} "
    body += f"{sys.version_info[0]}.{sys.version_info[1]}"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body.encode()})
"""
NAMES_ITS_VERSION = HELLO.replace("VERSION", "{sys.version_info[0]}.{sys.version_info[1]}").replace(
    "import os", "import os, sys"
)


def test_workers_run_the_engine_as_the_master_does_whatever_their_path(make_service: MakeService) -> None:
    """The library that the compiled modules are in was found on PYTHONPATH only, which the package does not set."""
    service = make_service(workers=1, environment={"PYTHONPATH": ""})
    service.deploy(
        "1", HELLO.replace("VERSION", "{__import__('clusterd.http.compilation').http.compilation.describe()}")
    )
    service.start()
    assert service.ask().version == os.environ.get("CLUSTERD_ENGINE", "interpreted")


def test_a_safe_path_keeps_what_is_on_it(make_service: MakeService, tmp_path: Path) -> None:
    """Python puts no directory of the program on such a path, so that there was another to lose."""
    (tmp_path / "library").mkdir()
    (tmp_path / "library/wanted.py").write_text("NUMBER = 7\n")
    path = os.pathsep.join([str(tmp_path / "library"), os.environ.get("PYTHONPATH", "")])
    service = make_service(workers=1, environment={"PYTHONSAFEPATH": "1", "PYTHONPATH": path})
    service.deploy("1", HELLO.replace("VERSION", "{__import__('wanted').NUMBER}"))
    service.start()
    assert service.ask().version == "7"


def environment_of(version: Version | None, directory: Path) -> tuple[Version, str]:
    """The version, if this machine has one, and the python of a new environment of it, without anything in it."""
    if version is None:
        pytest.skip("this machine has no other Python from 3.11 on")
    return version, virtual_environment(version, directory / "environment")


@pytest.mark.parametrize("version", others(at_least=OLDEST) or [None])
def test_another_minor_version_serves_and_reloads(
    make_service: MakeService, tmp_path: Path, version: Version | None
) -> None:
    version, python = environment_of(version, tmp_path)
    service = make_service(workers=1)
    service.deploy("1", NAMES_ITS_VERSION)
    service.start()
    service.configure(python=python)
    # Bare, as it is made: refused, with the command that mends it.
    done = service.reload()
    assert (done.returncode, service.ask().generation) == (1, 1)
    assert f"lacks uvloop; run: {python} -m pip install uvloop" in done.stderr
    install(python, "uvloop")
    assert service.reload().returncode == 0
    assert service.ask().version == f"{version[0]}.{version[1]}"
    # Python 3.12 begins a call at once, before there is a task for it; one that waits goes on as any other.
    for wait in ("pass", "await asyncio.sleep(0.01)"):
        service.deploy("1", ASGI.replace("WAIT", wait))
        assert service.reload().returncode == 0
        assert [service.ask().version for _ in range(20)] == [f"{version[0]}.{version[1]}"] * 20
    assert service.stop() == 0
    assert "the application, for" not in service.log()


@pytest.mark.parametrize("version", others(at_least=(3, 0), below=OLDEST) or [None])
def test_an_interpreter_that_is_too_old_is_refused_by_its_version(
    make_service: MakeService, version: Version | None
) -> None:
    if version is None:
        pytest.skip("this machine has no Python below 3.11")
    service = make_service(workers=1).start()
    service.configure(python=interpreters()[version])
    done = service.reload()
    assert (done.returncode, service.ask().generation) == (1, 1)
    assert f"is Python {version[0]}.{version[1]}." in done.stderr
    assert "clusterd needs 3.11 or newer" in done.stderr


SPAWNS = """
import multiprocessing, os
from clusterd import worker

def told(queue):
    queue.put(worker.is_worker)

def app(environ, start_response):
    context = multiprocessing.get_context(environ["QUERY_STRING"])
    queue = context.SimpleQueue()
    child = context.Process(target=told, args=[queue])
    child.start()
    child.join(60)
    start_response("200 OK", [])
    return [b"missing" if queue.empty() else str(queue.get()).encode()]
"""


@pytest.mark.engine_independent
@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_the_package_is_found_in_what_multiprocessing_starts(
    make_service: MakeService, tmp_path: Path, method: str
) -> None:
    python = virtual_environment(RUNNING, tmp_path / "environment")
    install(python, "uvloop")
    service = make_service(workers=1, threads=1, python=python, environment={"PYTHONPATH": ""})
    service.deploy("1", SPAWNS)
    service.start()
    assert service.get(f"/?{method}").text == "False"


ENDS = """
import atexit, concurrent.futures, os, sys, tempfile, threading
from clusterd import worker
NOTES = "DIRECTORY/notes"
def note(what):
    with open(NOTES, "a") as notes:
        notes.write(f"{os.getpid()} {what}\\n")
atexit.register(note, "of the import")
made = tempfile.TemporaryDirectory(prefix="once-")
file = open("DIRECTORY/file", "a")
pool = concurrent.futures.ThreadPoolExecutor(1)
def late(what):
    worker.stop_event.wait()
    note(what)
def app(environ, start_response):
    threading.Thread(target=late, args=["a thread"]).start()
    pool.submit(late, "a job")
    atexit.register(note, "of the worker")
    file.write("written")
    start_response("200 OK", [])
    return [f"{os.getpid()} {made.name} {sys.version_info[0]}.{sys.version_info[1]}".encode()]
"""


@pytest.mark.engine_independent
@pytest.mark.parametrize("version", others(at_least=OLDEST) or [None])
@pytest.mark.parametrize("preload", [True, False])
def test_a_worker_ends_as_orderly_under_another_version(
    make_service: MakeService, tmp_path: Path, version: Version | None, preload: bool
) -> None:
    """The end calls private functions of Python, which every version may change."""
    version, python = environment_of(version, tmp_path)
    install(python, "uvloop")
    service = make_service(workers=1, threads=1, python=python, preload=preload, timeouts={"drain": "20s"})
    service.deploy("1", ENDS.replace("DIRECTORY", str(tmp_path)))
    service.start()
    pid, made, told = service.get().text.split()
    assert told == f"{version[0]}.{version[1]}"
    assert service.stop() == 0
    noted = [
        line.split(maxsplit=1)[1] for line in (tmp_path / "notes").read_text().splitlines() if line.startswith(pid)
    ]
    assert sorted(noted[:2]) == ["a job", "a thread"]
    assert noted[2:] == ["of the worker", "of the import"]
    assert (tmp_path / "file").read_text() == "written"
    assert not Path(made).exists()
    assert "Traceback" not in service.log()


ON_THE_LOOP = """
import asyncio, sys
from clusterd import worker

heard = []

@worker.on("message")
async def told(message):
    await asyncio.sleep(0)
    heard.append(message)

async def waits():
    await asyncio.sleep(0)
    return f"{sys.version_info[0]}.{sys.version_info[1]}"

def app(environ, start_response):
    version = asyncio.run(waits())
    start_response("200 OK", [])
    yield f"{version} {heard} ".encode()
    yield asyncio.run(waits()).encode()
"""


@pytest.mark.parametrize("version", others(at_least=OLDEST) or [None])
def test_an_application_on_the_loop_runs_one_of_its_own_under_another_version(
    make_service: MakeService, tmp_path: Path, version: Version | None
) -> None:
    """What asyncio takes for a coroutine, and where it runs tasks, differs between versions."""
    version, python = environment_of(version, tmp_path)
    install(python, "uvloop")
    service = make_service(workers=1, threads=0, python=python)
    service.deploy("1", ON_THE_LOOP)
    service.start()
    told = f"{version[0]}.{version[1]}"
    assert service.get().text == f"{told} [] {told}"
    assert service.ask_to("send", slot=1, message="a word")["succeeded"]
    wait_until(lambda: service.get().text == f"{told} ['a word'] {told}", "the message was handled")
    assert service.stop() == 0
    assert "Traceback" not in service.log()

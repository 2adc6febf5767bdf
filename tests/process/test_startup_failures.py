"""What a failed start says, wherever it is said: the exception and its place in one line, and the traceback once."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import clusterd
from tests.support.checking import check
from tests.support.service import HELLO, Service

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]

CONNECT = """
def connect():
    raise ConnectionRefusedError("the database\\n  is down")
"""
PLACE = r"ConnectionRefusedError: the database is down \(/\S*/app\.py:3\)"
STARLETTE = """
import contextlib
from starlette.applications import Starlette
@contextlib.asynccontextmanager
async def lifespan(app):
    connect()
    yield
app = Starlette(lifespan=lifespan)
"""
BARE = """
async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    try:
        await receive()
        connect()
    except Exception:
        import traceback
        await send({"type": "lifespan.startup.failed", "message": traceback.format_exc()})
"""
RAISING = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        connect()
"""
CASES = pytest.mark.parametrize(
    ("source", "settings", "what"),
    [
        ("connect()", {}, "the application could not be loaded: app: app:app"),
        ("def make(): connect()", {"app": "app:make()"}, r"the application could not be loaded: app: app:make\(\)"),
        ("connect()", {"preload": False}, "the worker could not start: app: app:app"),
        (HELLO, {"worker_start": "app:connect"}, "the worker could not start: worker_start: app:connect"),
        (STARLETTE, {}, "the worker could not start: lifespan.startup"),
        (BARE, {}, "the worker could not start: lifespan.startup"),
        (
            "connect()",
            {"app": None, "run": "app:work", "listen": []},
            "the application could not be loaded: run: app:work",
        ),
    ],
    ids=["import", "factory", "import in the worker", "worker_start", "Starlette", "lifespan", "run"],
)


def traceback_in(lines: list[str]) -> list[str]:
    """The lines of the only traceback, without what the log puts before each."""
    bare = [line.partition(" error: ")[2] or line for line in lines if " info: " not in line]
    begins = [number for number, line in enumerate(bare) if "Traceback" in line]
    ends = [number for number, line in enumerate(bare) if line.endswith("  is down")]
    assert len(begins) == len(ends) == 1, lines
    return bare[begins[0] : ends[0] + 1]


def is_whole(found: list[str]) -> bool:
    """Whether a traceback has lines of its own, those of the application, and no frames of clusterd."""
    files = [line for line in found if line.startswith("  File ")]
    ours = [line for line in files if str(Path(clusterd.__file__).parent) in line or '"service/clusterd' in line]
    assert not ours
    assert found[0] == "Traceback (most recent call last):"
    assert found[-2:] == ["ConnectionRefusedError: the database", "  is down"]
    return bool(re.search(r'app\.py", line 3, in connect$', files[-1]))


@CASES
def test_the_log_and_the_status_of_a_start(
    make_service: MakeService, source: str, settings: dict[str, object], what: str
) -> None:
    service = make_service(workers=1, **settings)
    service.deploy("1", CONNECT + source)
    service.start(wait=False)
    service.wait_for_status(rf"^Starting: .*attempt 3; the last one failed: .*{PLACE}$")
    service.wait_for_line(f"error: {what}: {PLACE} (slot=1 )?generation=1 pid=")
    assert is_whole(traceback_in(service.lines))


@CASES
def test_a_check(make_service: MakeService, source: str, settings: dict[str, object], what: str) -> None:
    service = make_service(workers=1, **settings)
    service.deploy("1", CONNECT + source)
    done = check(service)
    assert (done.returncode, done.stdout) == (1, "")
    first, *others = done.stderr.splitlines()
    assert re.fullmatch(f"{what}: {PLACE}", first)
    assert traceback_in(others) == others
    assert is_whole(others)


def test_the_answer_to_a_reload_and_the_status_after_it(make_service: MakeService) -> None:
    service = make_service(workers=1).start()
    service.deploy("2", CONNECT + STARLETTE)
    done = service.reload()
    assert done.returncode == 1
    line = f"reload failed, generation 1 serves on: worker 1 of generation 2: lifespan.startup: {PLACE}"
    assert re.fullmatch(line, done.stderr.splitlines()[-1])
    assert "Traceback" not in done.stderr
    service.wait_for_status(rf"reload FAILED at [\d:]+: .*{PLACE}$")
    assert is_whole(traceback_in(service.lines))
    service.reload()
    service.wait_for_line(f"error: the worker could not start: lifespan.startup: {PLACE} slot=1 generation=3")


def test_a_lifespan_that_raises_is_one_line_and_a_traceback_too(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.deploy("1", CONNECT + RAISING)
    service.start()
    service.wait_for_line(f"warning: the application's lifespan ended: {PLACE} ")
    assert is_whole([line.partition(" warning: ")[2] for line in service.lines if " warning: " in line][1:])


@pytest.mark.parametrize("begins_thread", [False, True])
def test_a_template_that_can_fork_nothing_says_what_limits_it(
    make_service: MakeService, *, begins_thread: bool
) -> None:
    source = f"""
import os, resource, threading
if {begins_thread}:
    threading.Thread(target=threading.Event().wait, daemon=True).start()
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
os.setuid(12345)
"""
    service = make_service(workers=1)
    (service.directory / "app.py").write_text(source + HELLO)
    service.start(wait=False)
    service.wait_for_line(r"could not be loaded: no process can be forked: .*TasksMax= of the unit, `ulimit -u`")
    service.wait_for_line("start attempt 1 failed, trying again in 1 s")
    assert "Traceback" not in service.log()

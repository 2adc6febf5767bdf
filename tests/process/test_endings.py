"""A worker ends in an orderly way: what the application has begun ends, and what it has buffered is written."""

import socket
from pathlib import Path

import pytest

from tests.support.endings import ASGI, ENDINGS, PRELOADS, WSGI, Ending, Serve, stop
from tests.support.service import wait_until


@ENDINGS
@PRELOADS
def test_exit_handlers_run_those_of_the_import_too(serve: Serve, end: Ending, preload: bool) -> None:
    source = """
import atexit
atexit.register(note, "of the import")
def answer(path):
    atexit.register(note, "of the worker")
    return "x"
"""
    noted = serve(source + WSGI, preload=preload)
    noted.ask()
    assert noted.after(end) == ["of the worker", "of the import"]


@ENDINGS
@PRELOADS
def test_what_is_buffered_is_written(serve: Serve, end: Ending, preload: bool, tmp_path: Path) -> None:
    source = f"""
import logging, logging.handlers
before = open({str(tmp_path / "before")!r}, "a")
before.write("imported")
handler = logging.handlers.MemoryHandler(1000, target=logging.FileHandler({str(tmp_path / "log")!r}))
logging.getLogger("mine").addHandler(handler)
files = []
def answer(path):
    before.write(" called")
    files.append(open({str(tmp_path / "after")!r}, "w"))
    files[-1].write("written")
    for number in range(100):
        logging.getLogger("mine").warning("record %d", number)
    return "x"
"""
    noted = serve(source + WSGI, preload=preload)
    noted.ask()
    noted.after(end)
    assert (tmp_path / "after").read_text() == "written"
    assert (tmp_path / "before").read_text().count(" called") == 1
    assert (tmp_path / "log").read_text().count("record") == 100


def test_a_buffer_of_the_import_is_written_once(serve: Serve, tmp_path: Path) -> None:
    source = f"""
file = open({str(tmp_path / "file")!r}, "a")
file.write("imported")
def answer(path):
    return "x"
"""
    noted = serve(source + WSGI, preload=True)
    stop(noted.service)
    assert (tmp_path / "file").read_text() == "imported"


@ENDINGS
@PRELOADS
def test_threads_and_jobs_of_executors_are_waited_for(serve: Serve, end: Ending, preload: bool) -> None:
    source = """
import concurrent.futures, threading, time
from clusterd import worker
pool = concurrent.futures.ThreadPoolExecutor(1)
def work(what):
    worker.stop_event.wait()
    time.sleep(0.5)
    note(what)
def answer(path):
    threading.Thread(target=work, args=["a thread"]).start()
    pool.submit(work, "a job")
    pool.submit(note, "a job that waited")
    return "x"
"""
    noted = serve(source + WSGI, preload=preload)
    noted.ask()
    assert sorted(noted.after(end)) == ["a job", "a job that waited", "a thread"]


@ENDINGS
def test_tasks_are_cancelled_and_waited_for_after_the_shutdown(serve: Serve, end: Ending) -> None:
    source = """
import time
from clusterd import worker
tasks = []
def worker_stop():
    note("worker_stop")
async def background():
    try:
        await asyncio.sleep(1000)
    finally:
        await asyncio.sleep(0.1)
        note("a task")
async def generate():
    try:
        yield 1
        yield 2
    finally:
        note("a generator")
def block():
    worker.stop_event.wait()
    time.sleep(0.5)
    note("a job")
async def answer(path):
    tasks.append(asyncio.create_task(background()))
    tasks.append(generate())
    await anext(tasks[-1])
    tasks.append(asyncio.get_running_loop().run_in_executor(None, block))
    await asyncio.sleep(0)
    return "x"
"""
    noted = serve(ASGI + source, worker_stop="app:worker_stop")
    noted.ask()
    ended = noted.after(end)
    assert ended[:3] == ["lifespan.startup", "lifespan.shutdown", "worker_stop"]
    assert sorted(ended[3:]) == ["a generator", "a job", "a task"]


def test_what_the_drain_cuts_is_cancelled(serve: Serve) -> None:
    source = """
async def answer(path):
    if path == "/":
        return "x"
    try:
        note("begins")
        await asyncio.sleep(1000)
    finally:
        note("is cut")
"""
    noted = serve(ASGI + source, timeouts={"drain": "1s"})
    with socket.create_connection(("127.0.0.1", noted.service.port)) as client:
        client.sendall(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: "begins" in noted.of_worker(), "the request is in flight")
        assert noted.after(stop) == ["lifespan.startup", "begins", "is cut", "lifespan.shutdown"]


STUCK = {
    "the thread stuck-thread was cut": """
import threading
def answer(path):
    threading.Thread(target=wait_for_ever, name="stuck-thread").start()
    return "x"
""",
    "the exit handler wait_for_ever was cut": """
import atexit, threading
def answer(path):
    atexit.register(note, "the handler after it")
    atexit.register(wait_for_ever)
    return "x"
""",
    "worker_stop: app:worker_stop was cut": """
import atexit, threading
atexit.register(note, "the handler after it")
def answer(path):
    return "x"
def worker_stop():
    wait_for_ever()
""",
}
WAITS = """
def wait_for_ever():
    threading.Event().wait()
def worker_stop():
    pass
"""


@pytest.mark.parametrize("line", STUCK)
def test_what_does_not_end_is_named_and_cut_and_the_rest_goes_on(serve: Serve, line: str) -> None:
    noted = serve(WAITS + STUCK[line] + WSGI, timeouts={"drain": "1s"}, worker_stop="app:worker_stop")
    noted.ask()
    ended = noted.after(stop)
    assert line in noted.service.log()
    assert "app.py" in next(each for each in noted.service.lines if line in each) or "worker_stop" in line
    assert ended == (["the handler after it"] if "handler after" in STUCK[line] else [])
    assert "SIGKILL" not in noted.service.log()
    assert "Traceback" not in noted.service.log()


def test_a_task_that_does_not_end_is_named_and_cut(serve: Serve) -> None:
    source = """
import atexit
atexit.register(note, "the exit handler")
tasks = []
async def stubborn():
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            pass
async def answer(path):
    tasks.append(asyncio.create_task(stubborn(), name="stubborn-task"))
    await asyncio.sleep(0)
    return "x"
"""
    noted = serve(ASGI + source, timeouts={"drain": "1s"})
    noted.ask()
    assert noted.after(stop)[-1] == "the exit handler"
    line = next(each for each in noted.service.lines if "the task stubborn-task was cut" in each)
    assert "in stubborn" in line
    assert "SIGKILL" not in noted.service.log()

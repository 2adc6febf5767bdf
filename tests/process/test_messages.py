"""Messages between the applications in workers and whoever talks to them, through a whole clusterd."""

import json
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from clusterd.wire.messages import VALUE_BYTES
from tests.support.controlling import pids
from tests.support.following import Following
from tests.support.service import Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]

ECHO = """
import threading
from clusterd import worker

@worker.on("message")
def echo(message):
    if message == "fail":
        raise LookupError("no such thing")
    who = [worker.id, worker.pid, worker.generation, worker.is_worker]
    worker.send({"echo": message, "who": who, "thread": threading.current_thread().name})

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"served"]
"""


@pytest.fixture
def echo(make_service: MakeService) -> Service:
    service = make_service(workers=2)
    service.deploy("1", ECHO)
    return service.start()


# ---- there and back


def test_a_message_reaches_a_handler_from_before_the_fork_and_its_answer_is_an_event(echo: Service) -> None:
    with Following(echo) as following:
        assert echo.clusterctl("send", "2", '{"number": 7}').stdout == "sent to 1 worker\n"
        (event,) = following.wait_for(lambda each: each["event"] == "message")
    pid = pids(echo)[2]
    assert (event["slot"], event["generation"], event["pid"]) == (2, 1, pid)
    assert event["data"] == {"echo": {"number": 7}, "who": [2, pid, 1, True], "thread": "clusterd-messages"}


@pytest.mark.parametrize("preload", ["true", "false"])
def test_all_workers_are_sent_a_message_however_they_came_by_the_application(
    make_service: MakeService, preload: str
) -> None:
    service = make_service(workers=3, preload=json.loads(preload))
    service.deploy("1", ECHO)
    service.start()
    with Following(service) as following:
        for value in (None, "text", [1.5, {"a": None}]):
            ran = service.clusterctl("send", "all", json.dumps(value), "--json")
            assert json.loads(ran.stdout) == {"succeeded": True, "text": "sent to 3 workers", "workers": 3}
        for slot in (1, 2, 3):
            assert [said["echo"] for said in following.messages(3, slot)] == [None, "text", [1.5, {"a": None}]]


def test_messages_to_one_worker_are_handled_in_order(echo: Service) -> None:
    with Following(echo) as following:
        for number in range(100):
            assert echo.ask_to("send", slot=1, message=number)["succeeded"]
        assert [said["echo"] for said in following.messages(100)] == list(range(100))


def test_a_handler_that_fails_is_in_the_log_and_the_next_message_is_handled(echo: Service) -> None:
    with Following(echo) as following:
        before = pids(echo)
        echo.clusterctl("send", "1", '"fail"')
        echo.wait_for_line("the handler echo of a message: LookupError: no such thing")
        echo.wait_for_line(r'raise LookupError\("no such thing"\)')
        echo.clusterctl("send", "1", '"again"')
        assert following.messages(1)[0]["echo"] == "again"
    assert pids(echo) == before


def test_what_can_not_be_sent_is_refused_with_the_reason(echo: Service) -> None:
    assert "there is no worker to send it to" in echo.clusterctl("send", "7", "1").stderr
    unquoted = echo.clusterctl("send", "1", "hello")
    assert unquoted.returncode == 2
    assert "not JSON" in unquoted.stderr
    assert echo.clusterctl("send", "some", "1").returncode == 2
    for slot in (1, "all"):
        refused = echo.ask_to("send", slot=slot, message="x" * (VALUE_BYTES + 100))
        assert refused["succeeded"] is False
        assert refused["text"] == f"a message of {VALUE_BYTES + 102} bytes as JSON; at most {VALUE_BYTES} are possible"
    assert echo.ask_to("send", slot=1, message="x" * (VALUE_BYTES - 2))["succeeded"]


def test_of_a_long_message_the_beginning_is_an_event_and_many_leave_the_others_remembered(echo: Service) -> None:
    with Following(echo) as following:
        echo.ask_to("send", slot=1, message="x" * 1000)
        (event,) = following.wait_for(lambda each: each["event"] == "message")
        assert event["data"].startswith('{"echo": "xxx')
        assert len(event["data"]) == 500
        assert event["bytes"] > 1000
        for number in range(300):
            echo.ask_to("send", slot=1, message=number)
        following.messages(301)
    events = [json.loads(line) for line in echo.clusterctl("events", "--json").stdout.splitlines()]
    assert sum(event["event"] == "message" for event in events) == 50
    assert [event["event"] for event in events][:2] == ["fork", "fork"]
    numbers = [event["number"] for event in events]
    assert numbers == sorted(numbers)


# ---- the beginning and the end


HOOKS = """
from clusterd import worker

def start():
    worker.send("started")

def stop():
    worker.send(["stopped", worker.should_stop, worker.stop_event.is_set()])

def app(environ, start_response):
    start_response("200 OK", [])
    return [str(worker.should_stop).encode()]
"""


def test_hooks_may_send_and_know_that_the_worker_stops(make_service: MakeService) -> None:
    service = make_service(workers=1, worker_start="app:start", worker_stop="app:stop")
    service.deploy("1", HOOKS)
    service.start()
    with Following(service) as following:
        following.wait_for_message("started")
        assert service.get().text == "False"
        service.ask_to("restart", slot=1)
        following.wait_for_message(["stopped", True, True])
        assert following.messages(3).count("started") == 2


def test_without_a_handler_it_is_in_the_log_once(make_service: MakeService) -> None:
    service = make_service(workers=1).start()
    for _ in range(5):
        assert service.ask_to("send", slot=1, message=1)["succeeded"]
    service.wait_for_line("a message came, and the application has no handler")
    assert service.stop() == 0
    assert service.log().count("has no handler") == 1


# ---- requests of a worker


ASKS = """
import asyncio
from clusterd import worker

async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    answers = []
    try:
        await worker.request("anybody?", timeout=60)
    except worker.RequestFailed as error:
        answers.append(f"failed: {error}")
    try:
        worker.request("blocking").result()
    except RuntimeError as error:
        answers.append(f"refused: {error}")
    body = "\\n".join(answers).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})

def wsgi(environ, start_response):
    start_response("200 OK", [])
    try:
        worker.request("anybody?", timeout=60).result()
    except (worker.RequestFailed, RuntimeError) as error:
        return [f"{type(error).__name__}: {error}".encode()]
"""
NOBODY = "no hooks answer requests in the master: name their module in the setting hooks"


def asking(make_service: MakeService, **settings: object) -> Service:
    service = make_service(workers=1, **settings)
    service.deploy("1", ASKS)
    return service.start()


def test_a_request_in_async_code_is_awaited_and_blocking_there_is_refused(make_service: MakeService) -> None:
    service = asking(make_service, app="app:asgi")
    failed, refused = service.get().text.splitlines()
    assert failed == f"failed: {NOBODY}"
    assert "await the reply instead" in refused


def test_a_request_in_a_thread_waits_for_its_answer(make_service: MakeService) -> None:
    service = asking(make_service, app="app:wsgi", threads=2)
    # Many at once: threads of the pool may have the loop by then.
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(service.get().text)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [f"RequestFailed: {NOBODY}"] * 20


def test_a_request_on_the_loop_is_refused_where_it_would_block(make_service: MakeService) -> None:
    service = asking(make_service, app="app:wsgi", threads=0)
    assert service.get().text.startswith("RuntimeError: this thread runs an event loop")


GONE = """
import pathlib
from clusterd import worker

@worker.on("message")
def wait(message):
    worker.send("begun")
    worker.stop_event.wait()
    try:
        while True:
            worker.send("still there?")
    except (worker.Disconnected, worker.QueueFull) as error:
        (pathlib.Path(__file__).parent / "said").write_text(type(error).__name__)

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"served"]
"""


def test_when_the_master_is_gone_send_says_so(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.deploy("1", GONE)
    service.start()
    with Following(service) as following:
        service.ask_to("send", slot=1, message=1)
        following.wait_for_message("begun")
        service.signal(signal.SIGKILL)
        service.wait()
    said = Path(service.directory / "said")
    wait_until(lambda: said.exists() and said.read_text(), "what send raised")
    assert said.read_text() == "Disconnected"


FORKS = """
import multiprocessing
from clusterd import worker

def child(pipe):
    try:
        worker.send("nobody hears this")
    except worker.NotInWorker as error:
        pipe.send([worker.is_worker, str(error)])
    multiprocessing.Event().wait()

@worker.on("message")
def fork(message):
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=child, args=(theirs,))
    process.start()
    said = ours.recv()
    process.terminate()
    process.join()
    worker.send([*said, process.exitcode])

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"served"]
"""


def test_what_an_application_forks_is_no_worker(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.deploy("1", FORKS)
    service.start()
    with Following(service) as following:
        assert service.clusterctl("send", "1", "null").returncode == 0
        (event,) = following.wait_for(lambda each: each["event"] == "message")
    assert event["data"] == [False, "this process is no worker of clusterd: it cannot send messages", -signal.SIGTERM]
    assert pids(service)[1] == event["pid"]
    assert "SIGTERM received" not in service.log()

"""A template and its workers go on when their master dies, and tell the next one what it has to know."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from clusterd.wire import messages
from clusterd.wire.packets import socketpair
from tests.support.driving import Driver, parent_of, wait_for_end
from tests.support.endings import WSGI
from tests.support.processes import is_alive, open_files
from tests.support.service import HELLO, wait_until

pytestmark = pytest.mark.engine_independent

SUCCESSOR = 4711
"""The pid of the next master, as far as it matters here. There is no such process."""


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    made = Driver(tmp_path)
    yield made
    made.close()
    print(f"--- log\n{made.log}")


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A pipe that keeps waiting what opens it for reading, until a test has opened and closed it too."""
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


@contextmanager
def opened(gate: Path) -> Iterator[None]:
    """Wait until a process reads the gate. It goes on at the end."""

    def writer() -> int | None:
        try:
            return os.open(gate, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # It has no reader (ENXIO, fifo(7)).
            return None

    descriptor = wait_until(writer, "the gate is reached")
    yield
    os.close(descriptor)


def changed(*masters: int) -> list[messages.Message]:
    return [messages.MasterChanged(each) for each in masters or (SUCCESSOR,)]


# ---- what goes on


def test_a_template_and_its_worker_go_on(driver: Driver) -> None:
    driver.load(HELLO)
    worker = driver.serve(reaped=False)
    driver.kill_master()
    assert driver.get().startswith(f"{worker.pid} 1 1 ")
    second = driver.serve()
    assert is_alive(worker.pid)
    assert second.pid != worker.pid


def test_without_that_order_a_template_dies_with_its_master(driver: Driver) -> None:
    driver.load(HELLO, outlives_master=False)
    ended = os.pidfd_open(driver.template.pid)
    driver.kill_master()
    wait_for_end(ended)


def test_an_import_goes_on(driver: Driver, gate: Path) -> None:
    driver.order_load(f"open({str(gate)!r}).read()\n" + HELLO)
    driver.template.hear(messages.Importing)
    with opened(gate):
        driver.kill_master()
        driver.template.say(messages.MasterChanged(SUCCESSOR))
    for _ in range(2):  # It reads when it has loaded.
        driver.template.hear(messages.Loaded)


def test_a_boot_goes_on(driver: Driver, gate: Path) -> None:
    driver.load(HELLO + f"def start():\n    open({str(gate)!r}).read()\n", worker_start="driven_app:start")
    worker = driver.fork(reaped=False)
    worker.say(messages.Welcome())
    with opened(gate):
        driver.kill_master()
        worker.say(messages.MasterChanged(SUCCESSOR))
    worker.hear(messages.Ready)


def test_both_end_with_their_channels(driver: Driver) -> None:
    driver.load(HELLO)
    worker = driver.serve(reaped=False)
    spare = driver.fork_spare(reaped=False)
    driver.kill_master()
    for each in (driver.template, spare, worker):
        ended = os.pidfd_open(each.pid)
        each.close()
        wait_for_end(ended)


def test_a_worker_ends_what_it_has_started_as_no_master_inherits_it(driver: Driver) -> None:
    source = """
import subprocess
programs = []
def answer(path):
    programs.append(subprocess.Popen(["sleep", "1000"], start_new_session=path == "/session"))
    return str(programs[-1].pid)
"""
    driver.load(source + WSGI)
    first = driver.serve(reaped=False)
    started = [int(driver.get(path)) for path in ("/", "/session")]
    driver.kill_master()
    driver.retire(first)
    assert first.said_before_end() == []
    second = driver.serve()
    started += [int(driver.get(path)) for path in ("/", "/session")]
    driver.retire(second)
    assert driver.template.hear(messages.Reaped).pid == second.pid
    wait_until(lambda: not any(map(is_alive, started)), "what the workers have started is gone")


# ---- what is told again


COUNTS = """
import prometheus_client
counter = prometheus_client.Counter("imports", "Imports.")
counter.inc()
"""


def test_a_template_tells_again_that_it_has_loaded_with_what_its_import_has_counted(driver: Driver) -> None:
    driver.order_load(COUNTS + HELLO)
    files = []
    for number in range(3):
        if number:
            driver.template.say(messages.MasterChanged(SUCCESSOR + number))
        driver.template.hear(messages.Loaded)
        [descriptor] = driver.template.descriptors
        files.append(os.fstat(descriptor).st_ino)
    assert len(set(files)) == 1


def test_a_spare_tells_nothing(driver: Driver) -> None:
    driver.load(HELLO)
    spare = driver.fork_spare(reaped=False)
    for each in changed(1, 2, 2):
        spare.say(each)
    worker = driver.serve(by=spare)
    assert parent_of(worker.pid) == spare.pid
    worker.close()
    assert isinstance(spare.hear(messages.Message), messages.Reaped)


@pytest.mark.parametrize("source", [{"run": "driven_app:work"}, {}])
def test_a_worker_tells_again_that_it_is_ready(driver: Driver, source: dict[str, Any]) -> None:
    driver.load(HELLO + "from clusterd import worker\ndef work():\n    worker.stop_event.wait()\n", **source)
    worker = driver.serve()
    for each in changed(1, 2, 2):
        worker.say(each)
        worker.hear(messages.Ready)
    driver.retire(worker)
    assert worker.said_before_end() == []


def test_one_that_is_not_ready_yet_says_so_once(driver: Driver, gate: Path) -> None:
    source = f"""
import asyncio
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await asyncio.to_thread(lambda: open({str(gate)!r}).read())
        await send({{"type": "lifespan.startup.complete"}})
        await receive()
        await send({{"type": "lifespan.shutdown.complete"}})
"""
    driver.load(source)
    worker = driver.fork()
    worker.say(messages.Welcome())
    with opened(gate):  # It has begun its startup: the loop turns, and reads.
        worker.say(messages.MasterChanged(SUCCESSOR))
        worker.say(messages.TellStacks(1))
        assert isinstance(worker.hear(messages.Message), messages.StacksTold)
    worker.hear(messages.Ready)
    driver.retire(worker)
    assert worker.said_before_end() == []


def test_one_that_is_not_welcome_yet_says_hello_again(driver: Driver) -> None:
    """The dead master may have read its hello, and had no time to write that down."""
    driver.load(HELLO)
    worker = driver.fork()
    worker.say(messages.MasterChanged(SUCCESSOR))
    assert worker.hear(messages.Hello).serial == driver.serial
    worker.say(messages.Welcome())
    worker.hear(messages.Ready)


def test_one_that_has_lost_its_successor_says_so_again(driver: Driver) -> None:
    driver.load(HELLO)
    worker = driver.serve()
    client = socket.create_connection(driver.address)
    with client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")  # It is not at rest, and cannot move.
        wait_until(driver.connections, "it has the connection")
        ours, theirs = socketpair()
        with theirs:
            driver.retire(worker, theirs.fileno())
        ours.close()
        worker.hear(messages.SuccessorLost)
        for each in changed(1, 2):
            worker.say(each)
            worker.hear(messages.Ready)
            assert worker.hear(messages.Message) == messages.SuccessorLost(1)
        driver.retire(worker)
        worker.say(messages.MasterChanged(3))
        assert isinstance(worker.hear(messages.Message), messages.Ready)
        worker.say(messages.TellStacks(1))
        assert isinstance(worker.hear(messages.Message), messages.StacksTold)


def test_an_overdue_request_is_told_again(driver: Driver, gate: Path) -> None:
    source = f"def answer(path):\n    return open({str(gate)!r}).read()\n" + WSGI
    driver.load(source, threads=1, timeouts={"request": "200ms"})
    worker = driver.serve()
    with socket.create_connection(driver.address) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        with opened(gate):
            worker.hear(messages.Overdue)
            worker.say(messages.MasterChanged(SUCCESSOR))
            worker.hear(messages.Ready)
            assert worker.hear(messages.Message) == messages.Overdue("GET /slow")


# ---- the conversation


TALKS = """
from clusterd import worker
handled = []
@worker.on("message")
def heard(value):
    handled.append(value)
    return f"reply to {value}"
def answer(path):
    try:
        return str(worker.request(path).result())
    except Exception as error:
        return type(error).__name__
"""


def test_a_request_to_the_dead_master_fails_and_the_next_one_is_answered(driver: Driver) -> None:
    driver.load(TALKS + WSGI, threads=2)
    worker = driver.serve()
    first = driver.get_in_thread("/first")
    asked = worker.hear(messages.AppMessage)
    for each in changed(1, 1):
        worker.say(each)
    assert first() == "Disconnected"
    second = driver.get_in_thread("/second")
    later = worker.hear(messages.AppMessage)
    worker.say(messages.MasterChanged(1))  # The same one says it again: what it was asked still counts.
    worker.say(messages.Ack(2))
    worker.say(messages.AppMessage("too late", reply=asked.request))
    worker.say(messages.AppMessage("answered", reply=later.request))
    assert second() == "answered"
    worker.say(messages.AppMessage("question", request=7))
    assert worker.hear(messages.AppMessage) == messages.AppMessage("reply to question", reply=7)
    assert worker.hear(messages.Ack) == messages.Ack(1)


# ---- what a template reaps


REAPS = {
    "nothing": "",
    "the kernel": "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n",
    "the application": """
import os, signal
def reap(*_):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
signal.signal(signal.SIGCHLD, reap)
""",
}


@pytest.mark.parametrize("reaper", REAPS)
def test_a_template_reaps_and_tells_how_its_worker_has_ended(driver: Driver, reaper: str) -> None:
    driver.load(REAPS[reaper] + HELLO)
    for number in (signal.SIGKILL, signal.SIGSEGV):
        worker = driver.serve()
        assert parent_of(worker.pid) == driver.template.pid
        os.kill(worker.pid, number)
        reaped = driver.template.hear(messages.Reaped)
        assert (reaped.serial, reaped.pid) == (driver.serial, worker.pid)
        if reaper == "nothing":
            assert os.WTERMSIG(reaped.status) == number
            assert reaped.cpu_seconds > 0
        else:
            assert (reaped.status, reaped.cpu_seconds) == (-1, 0)
        assert not Path(f"/proc/{worker.pid}").exists()


def test_the_exit_status_of_a_worker_is_told(driver: Driver) -> None:
    driver.load("import os\ndef answer(path):\n    os._exit(7)\n" + WSGI)
    worker = driver.serve()
    with socket.create_connection(driver.address) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert os.waitstatus_to_exitcode(driver.template.hear(messages.Reaped).status) == 7
    assert worker.said_before_end() == []


def test_a_template_leaves_the_children_of_the_import_to_the_application(driver: Driver, gate: Path) -> None:
    source = f"""
import subprocess
program = subprocess.Popen(["cat", {str(gate)!r}])
"""
    driver.load(source + HELLO)
    [program] = [pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if is_cat(pid, gate)]
    with opened(gate):
        pass
    wait_until(lambda: not is_alive(program), "the program has ended")
    worker = driver.fork()
    worker.close()
    assert driver.template.hear(messages.Reaped).pid == worker.pid
    assert Path(f"/proc/{program}").exists()  # It waits for the application, which has its Popen.


def is_cat(pid: int, gate: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text() == f"cat\0{gate}\0"
    except OSError:
        return False


def pidfds(pid: int) -> list[str]:
    return [each for each in open_files(pid).values() if "pidfd" in each]


def test_a_spare_that_becomes_the_template_has_children_of_its_own_only(driver: Driver) -> None:
    driver.load(HELLO)
    elder = driver.serve()
    spare = driver.fork_spare()
    assert parent_of(spare.pid) == driver.template.pid
    assert len(pidfds(driver.template.pid)) == 2
    assert pidfds(spare.pid) == pidfds(elder.pid) == []
    os.kill(driver.template.pid, signal.SIGKILL)
    wait_until(lambda: parent_of(elder.pid) != driver.template.pid, "the worker has another parent")
    worker = driver.serve(by=spare)
    assert pidfds(worker.pid) == []
    os.kill(elder.pid, signal.SIGKILL)
    os.kill(worker.pid, signal.SIGKILL)
    assert spare.hear(messages.Reaped).pid == worker.pid


def test_a_template_that_leaves_leaves_its_workers(driver: Driver) -> None:
    driver.load(HELLO)
    worker = driver.serve()
    ended = os.pidfd_open(driver.template.pid)
    driver.template.close()
    wait_for_end(ended)
    assert driver.get().startswith(f"{worker.pid} 1 1 ")


def test_the_copy_of_a_template_that_stands_aside_reaps(driver: Driver) -> None:
    driver.load("import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n" + HELLO)
    copy = driver.template.hear(messages.StandsAside).copy
    driver.kill_master()
    worker = driver.serve()
    assert parent_of(worker.pid) == copy
    worker.close()
    assert driver.template.hear(messages.Reaped).pid == worker.pid
    assert driver.template.pid == copy


def test_a_worker_has_the_threads_that_fork_handlers_begin_and_a_spare_has_none(driver: Driver) -> None:
    source = """
import os, threading
def begin():
    threading.Thread(target=threading.Event().wait, name="anew", daemon=True).start()
os.register_at_fork(after_in_child=begin)
def answer(path):
    return str([each.name for each in threading.enumerate()].count("anew"))
"""
    driver.load(source + WSGI)
    spare = driver.fork_spare()
    wait_until(lambda: len(os.listdir(f"/proc/{spare.pid}/task")) == 1, "the thread in the spare has ended")
    driver.serve()
    assert driver.get() == "1"

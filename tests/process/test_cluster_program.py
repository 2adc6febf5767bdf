"""Programs that are their own master: what their handlers may do, and what they are told when they are wrong."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterd.wire.conversation import MOST_WAITING
from tests.support.outspoken import Raised
from tests.support.program import HEARS_ALL, Program, program
from tests.support.service import wait_until

pytestmark = pytest.mark.engine_independent


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Program]:
    with program(tmp_path) as made:
        yield made


def test_handlers_may_be_async_and_share_a_loop(tmp_path: Path) -> None:
    source = """
import asyncio
loops = set()

@cluster.on("online")
async def online(worker):
    await asyncio.sleep(0)
    loops.add(asyncio.get_running_loop())
    say("online", worker.id, len(loops), threading.current_thread().name)
"""
    with program(tmp_path, source=source) as started:
        assert started.wait_to_hear("online", 1) == ["online", 1, 1, "clusterd-handlers"]
        assert started.wait_to_hear("online", 2) == ["online", 2, 1, "clusterd-handlers"]


def test_a_handler_that_fails_is_in_the_log_and_changes_nothing(tmp_path: Path) -> None:
    source = """
@cluster.on("online")
def online(worker):
    raise LookupError("no such thing")

@cluster.on("listening")
def listening(worker, addresses):
    sys.exit("not by a handler")
"""
    with program(tmp_path, source=source + HEARS_ALL) as started:
        started.wait_for_line("the handler online of 'online': LookupError: no such thing")
        started.wait_for_line(r'raise LookupError\("no such thing"\)')
        started.wait_to_hear("listening", 2)
        assert started.ask().slot in (1, 2)


def test_a_handler_that_never_returns_holds_up_neither_requests_nor_reloads_nor_the_end(tmp_path: Path) -> None:
    source = """
@cluster.on("online")
def online(worker):
    say("stuck")
    threading.Event().wait()
"""
    with program(tmp_path, source=source) as started:
        started.wait_to_hear("stuck")
        assert started.reload().returncode == 0
        assert started.ask().generation == 2
        assert started.stop() == 0
        assert "the program ends before its handlers have finished" in started.log()


def test_an_application_that_does_not_start_ends_run_with_its_status(tmp_path: Path) -> None:
    made = Program(tmp_path)
    made.deploy("1", "import no_such_thing")
    made.start(wait=False)
    try:
        assert made.wait_to_hear("ended") == ["ended", 70]
        made.wait()
    finally:
        made.destroy()


def test_what_makes_no_sense_is_refused_with_what_to_do(started: Program) -> None:
    with pytest.raises(Raised, match="needs the main thread"):
        started.do("cluster.run()")
    with pytest.raises(Raised, match="the cluster does not run yet"):
        started.do("Cluster('app:app').scale(2)")
    with pytest.raises(Raised, match="there is no event 'onlin'"):
        started.do("cluster.on('onlin')")
    with pytest.raises(Raised, match="has to be a function: found 3"):
        started.do("cluster.on('exit')(3)")
    with pytest.raises(Raised, match="the cluster does not run yet"):
        started.do("Cluster('app:app').broadcast(1)")
    with pytest.raises(Raised, match=r"found '\+1', must be a whole number from 1 to 1024"):
        started.do("cluster.scale('+1')")
    with pytest.raises(Raised, match="there is no signal 'SIGNONE'"):
        started.do("cluster.workers[1].kill('SIGNONE')")
    assert started.do("Cluster('app:app').workers") == {}


def test_run_in_a_coroutine_is_refused(tmp_path: Path) -> None:
    script = """
import asyncio
from clusterd import Cluster
async def main():
    Cluster("app:app", control="control.sock").run()
asyncio.run(main())
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.stderr.splitlines()[-1] == (
        "RuntimeError: Cluster.run() has an event loop of its own: call it outside of asyncio.run()"
    )


def test_a_taken_address_and_a_second_run_are_errors(started: Program, tmp_path: Path) -> None:
    script = f"""
from clusterd import Cluster
cluster = Cluster("app:app", listen=["127.0.0.1:{started.port}"], control="other.sock")
for kind in (OSError, RuntimeError):
    try:
        cluster.run()
    except kind as error:
        print(kind.__name__, error)
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert f"127.0.0.1:{started.port}" in ran.stdout.splitlines()[0]
    assert ran.stdout.splitlines()[-1] == "RuntimeError a cluster runs once: make another"


def test_a_worker_more_may_be_forked_while_the_cluster_starts(tmp_path: Path) -> None:
    source = """
@cluster.on("fork")
def forked(worker):
    if worker.id == 1:
        say("forked", cluster.fork().id)
"""
    # The second slot is forked at once too, and not ready before the third was asked for.
    with program(tmp_path, source=source) as started:
        assert started.wait_to_hear("forked") == ["forked", 3]
        wait_until(lambda: sorted(started.pids()) == [1, 2, 3], "three workers")


@pytest.mark.parametrize("kind", ["", "async "])
def test_a_fork_in_a_handler_of_exit_does_not_grow_the_cluster(tmp_path: Path, kind: str) -> None:
    source = f"""
{kind}def fork(what, worker):
    forked = cluster.fork({{"COLOUR": "red"}})
    say(what, worker.id, worker.pid, forked.id, forked is worker, forked.is_dead())

@cluster.on("exit")
{kind}def exited(worker, code, signal):
    {"await " if kind else ""}fork("exited", worker)

@cluster.on("disconnect")
{kind}def disconnected(worker):
    {"await " if kind else ""}fork("disconnected", worker)
"""
    with program(tmp_path, source=source) as started:
        first = started.pids()[1]
        started.do("cluster.workers[1].kill(signal.SIGKILL)")
        assert started.wait_to_hear("exited", 1, first) == ["exited", 1, first, 1, False, False]
        wait_until(lambda: first not in started.pids().values() and sorted(started.pids()) == [1, 2], "two workers")
        started.do("cluster.reload().result()")
        assert sorted(started.pids()) == [1, 2]
        started.do("cluster.scale(1)")
        second = started.wait_to_hear("exited", 2)[2]
        wait_until(lambda: sorted(started.pids()) == [1], "one worker")
        assert second is not None
        assert started.do("cluster.fork().id") == 2
        last = set(started.pids().values())
        assert started.stop() == 0
        ends = [said for said in started.said() if said[0] == "exited" and said[2] in last]
        assert ends and all(said[4] for said in ends)  # none follows: it is the worker itself
    assert started.log().count("adds no worker") == 1
    assert "Traceback" not in started.log()


def test_a_signal_handler_of_the_program_may_command_and_can_not_wait(tmp_path: Path) -> None:
    source = """
def act(*_):
    cluster.scale(3)
    try:
        cluster.reload().result()
    except RuntimeError as error:
        say("refused", str(error))

signal.signal(signal.SIGUSR2, act)
"""
    with program(tmp_path, source=source) as started:
        started.signal(signal.SIGUSR2)
        assert "this thread runs an event loop" in started.wait_to_hear("refused")[1]
        wait_until(lambda: sorted(started.pids()) == [1, 2, 3], "three workers")


def test_what_waits_for_a_cluster_that_ends_is_told_so(tmp_path: Path) -> None:
    epilogue = """
replies = []
threading.Thread(target=obey, daemon=True).start()
cluster.run()
for ask in (replies[0].result, cluster.disconnect, lambda: cluster.scale(2)):
    try:
        ask()
    except Exception as error:
        say("told", type(error).__name__, str(error))
say("workers", len(cluster.workers))
"""
    with program(tmp_path, epilogue=epilogue) as started:
        started.do("[replies.append(cluster.reload()), cluster.disconnect()]")
        assert started.wait() == 0
        first, second, third, workers = started.said()[-4:]
        assert first[1] in ("RequestFailed", "RuntimeError")
        assert second == third == ["told", "RuntimeError", "the cluster has stopped"]
        assert workers == ["workers", 0]


LEAVES_A_CHILD = """
import subprocess, sys
from clusterd import worker

@worker.on("message")
def told(message):
    # It has a session and an environment of its own, and does not end when it is asked to.
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    subprocess.Popen([sys.executable, "-c", program], env={}, start_new_session=True, stdout=sys.stdout)

def app(environ, start_response):
    start_response("200 OK", [])
    return [b""]
"""


def test_commands_of_threads_are_refused_as_the_cluster_ends(tmp_path: Path) -> None:
    """Between the end of the loop and that of the cluster, in which what the application left behind is ended."""
    source = """
refused = set()

def command():
    while "the cluster has stopped" not in refused:
        try:
            cluster.scale(2)
        except Exception as error:
            refused.add(str(error))
        time.sleep(0.01)
    say("refused", sorted(refused))

import time
"""
    (tmp_path / "app.py").write_text(LEAVES_A_CHILD)
    with program(tmp_path, source=source) as started:
        started.do("cluster.workers[1].send(1)")
        started.wait_for_line("^deaf$")
        # Said, because what carries this out is a daemon thread, and hands that down: the program does not wait for it.
        started.do("[threading.Thread(target=command, daemon=False).start() for _ in range(20)] and None")
        assert started.stop() == 0
        refusals = [said[1] for said in started.said() if said[0] == "refused"]
        assert len(refusals) == 20
        known = {"the cluster is stopping", "the cluster is finished", "the cluster has stopped"}
        assert {each for told in refusals for each in told} <= known


def test_handlers_use_the_cluster_and_a_worker_that_dies_is_known_dead(tmp_path: Path) -> None:
    source = """
@cluster.on("exit")
def exited(worker, code, signal):
    try:
        worker.send("too late")
    except ConnectionError as error:
        say("exit", str(error), worker in cluster.workers.values(), worker.kill())
    if worker.id == 2:
        cluster.disconnect()
"""
    with program(tmp_path, source=source) as started:
        started.do("cluster.workers[2].kill(signal.SIGKILL)")
        assert started.wait() == 0
        assert started.wait_to_hear("exit") == ["exit", "the other side is gone", False, None]


FLOODS = """
from clusterd import worker

@worker.on("message")
def flood(message):
    sent = 0
    try:
        while True:
            worker.send(sent)
            sent += 1
    except worker.QueueFull:
        return sent

def app(environ, start_response):
    start_response("200 OK", [])
    return [b""]
"""


def test_a_worker_that_says_more_than_handlers_get_through_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(FLOODS)
    source = """
go_on, heard = threading.Event(), []

@cluster.on("message")
def message(worker, number):
    go_on.wait()
    heard.append(number)
"""
    with program(tmp_path, source=source) as started:
        sent = started.do("cluster.workers[1].request('flood').result()")
        assert sent == MOST_WAITING
        assert started.get().status_code == 200
        started.do("go_on.set()")
        wait_until(lambda: started.do("len(heard)") == sent, "all messages")
        assert started.do("heard == list(range(len(heard)))") is True
        assert started.do("cluster.events_dropped") == 0


def test_a_handler_may_run_programs_and_hears_how_they_end(tmp_path: Path) -> None:
    source = """
import subprocess

@cluster.on("message")
def run(worker, message):
    statuses = {subprocess.run(["sh", "-c", "exit 3"]).returncode for _ in range(50)}
    say("ran", sorted(statuses))
"""
    (tmp_path / "app.py").write_text(FLOODS.replace("while True", "while not sent"))
    with program(tmp_path, source=source) as started:
        started.do("cluster.workers[1].send('one')")
        assert started.wait_to_hear("ran") == ["ran", [3]]
        assert started.do("len(cluster.workers)") == 2

"""Programs that are their own master: what their handlers may do, and what they are told when they are wrong."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.program import HEARS_ALL, Program, Raised, program


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
        assert "the program ends before its handlers are through" in started.log()


def test_an_application_that_does_not_start_ends_run_with_its_status(tmp_path: Path) -> None:
    made = Program(tmp_path)
    made.deploy("1", "raise LookupError('no such thing')")
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
    assert started.do("Cluster('app:app').workers") == {}


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

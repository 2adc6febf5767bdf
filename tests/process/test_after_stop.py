"""What ends the processes that a dead master has left, in a control group of the kernel's."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clusterd.cli import after_stop
from clusterd.cli.after_stop import Ending
from clusterd.systemd.control_group import ControlGroup
from tests.support.control_groups import group_with_tasks
from tests.support.service import PATIENCE_SECONDS, wait_until

pytestmark = pytest.mark.engine_independent

Start = Callable[..., "subprocess.Popen[bytes]"]

PROGRAM = """
import os, signal, sys, time
group, notes, name, what, seconds = sys.argv[1:]
def note(text):
    with open(notes, "a") as file:
        print(name, text, file=file)
def drain(number, frame):
    note("drains")
    time.sleep(float(seconds))
    note("leaves")
    os._exit(0)
open(f"{group}/cgroup.procs", "w").write("0")
open("/proc/self/comm", "w").write(name)
signal.signal(signal.SIGTERM, drain if what == "drains" else signal.SIG_IGN)
note("runs")
while True:
    signal.pause()
"""


@pytest.fixture
def group() -> Iterator[Path]:
    with group_with_tasks() as made:
        yield made


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


@pytest.fixture
def start(group: Path, notes: Path) -> Iterator[Start]:
    """Start a process of this name in the group. It drains at SIGTERM for some seconds, or ignores it."""
    started: list[subprocess.Popen[bytes]] = []

    def run(name: str, what: str, seconds: float = 0.0) -> "subprocess.Popen[bytes]":
        arguments = [str(group), str(notes), name, what, str(seconds)]
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments])
        started.append(process)
        wait_until(lambda: notes.exists() and f"{name} runs\n" in notes.read_text(), "it runs")
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


def test_the_others_go_on_until_the_workers_have_drained(group: Path, notes: Path, start: Start) -> None:
    start("clusterd-w1", "drains", 0.5)
    start("clusterd-w12", "drains", 0.0)
    start("redis", "drains", 0.0)
    Ending(ControlGroup(group)).end(PATIENCE_SECONDS)
    said = notes.read_text().splitlines()
    assert said[-3:] == ["clusterd-w1 leaves", "redis drains", "redis leaves"]
    assert not ControlGroup(group).pids()


def test_a_template_ignores_the_signal_and_is_not_waited_for(
    group: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(after_stop, "OTHERS_SECONDS", 10 * PATIENCE_SECONDS)
    template = start("clusterd-t1", "ignores")
    Ending(ControlGroup(group)).end(PATIENCE_SECONDS)
    assert template.wait(PATIENCE_SECONDS) == -9


def test_a_worker_that_drains_for_too_long_is_killed(group: Path, start: Start) -> None:
    worker = start("clusterd-w1", "drains", 10 * PATIENCE_SECONDS)
    Ending(ControlGroup(group)).end(0.2)
    assert worker.wait(PATIENCE_SECONDS) == -9


def test_what_ignores_the_signal_is_killed(group: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(after_stop, "OTHERS_SECONDS", 0.2)
    other = start("redis", "ignores")
    Ending(ControlGroup(group)).end(PATIENCE_SECONDS)
    assert other.wait(PATIENCE_SECONDS) == -9


def test_this_process_is_not_ended(group: Path) -> None:
    procs = group / "cgroup.procs"
    before = ControlGroup(group).pids()
    assert os.getpid() not in before
    pid = os.fork()
    if pid == 0:
        procs.write_text("0")
        Ending(ControlGroup(group)).end(0.0)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_by_hand_it_says_what_it_is_for() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from clusterd.cli.after_stop import main; sys.exit(main())"],
        env={**os.environ, "PYTHONPATH": str(Path(after_stop.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "ExecStopPost=" in done.stderr


def test_it_imports_nothing_that_takes_time() -> None:
    """A restart waits for it."""
    script = "import sys, clusterd.cli.after_stop; print(*sys.modules)"
    done = subprocess.run(
        [
            sys.executable,
            "-IS",
            "-c",
            f"import sys; sys.path.insert(0, {str(Path(after_stop.__file__).parents[2])!r}); {script}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    heavy = {"asyncio", "dataclasses", "inspect", "logging", "socket", "subprocess", "typing", "uvloop"}
    assert not heavy & set(done.stdout.split())

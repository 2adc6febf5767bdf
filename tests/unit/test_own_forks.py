"""The ends of the processes that a template reaps itself, also beside an application that reaps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clusterd.template import own_forks

pytestmark = pytest.mark.engine_independent

BEGIN = """
import os, resource, select, signal
from clusterd.runtime import originals
from clusterd.template.forking import ForkRefused
from clusterd.template.own_forks import OwnForks

reader, writer = os.pipe()
forks = OwnForks()

def fork(serial, end=lambda: os._exit(0)):
    if forks.fork(serial, with_threads=True):
        end()

def told():
    found, may_read = forks.wait(reader)
    return [(each.serial, each.status) for each in found], may_read
"""


def said(script: str) -> list[str]:
    """The lines that a process prints which runs the script."""
    environment = {**os.environ, "PYTHONPATH": str(Path(own_forks.__file__).parents[2])}
    command = [sys.executable, "-c", BEGIN + script]
    ran = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=60)
    return (ran.stdout or ran.stderr).splitlines()


def test_an_end_and_an_order_are_told_apart() -> None:
    script = """
fork(1, lambda: os._exit(3))
print(told())
os.write(writer, b"x")
print(told())
fork(2)
while not (both := told())[0]:
    pass
print(both)
"""
    assert said(script) == ["([(1, 768)], False)", "([], True)", "([(2, 0)], True)"]


@pytest.mark.parametrize("reaper", ["signal.SIG_IGN", "lambda *_: os.waitpid(-1, os.WNOHANG)"])
def test_the_end_of_one_that_was_reaped_before_it_could_be_watched_is_told(reaper: str) -> None:
    script = f"""
signal.signal(signal.SIGCHLD, {reaper})
fork_now = originals.fork
def fork_and_lose_the_child():
    child = fork_now()
    while child and os.path.exists(f"/proc/{{child}}"):
        signal.sigtimedwait([], 0.001)
    return child
originals.fork = fork_and_lose_the_child
fork(1)
print(told())
"""
    assert said(script) == ["([(1, -1)], False)"]


def test_one_whose_pid_is_anothers_by_now_is_not_mistaken_for_it() -> None:
    """The application has reaped it, and has started a process of its own that has ended too, with the same pid."""
    script = """
fork(1)
watched, = forks._living
os.waitid(os.P_PIDFD, watched, os.WEXITED)
own = os.fork()
if own == 0:
    os._exit(5)
os.waitid(os.P_PID, own, os.WEXITED | os.WNOWAIT)
forks._living[watched] = type(forks._living[watched])(1, own)
print(told())
print(os.waitpid(own, 0)[1])
"""
    assert said(script) == ["([(1, -1)], False)", "1280"]


def test_where_there_is_no_descriptor_to_watch_it_with_nothing_is_forked() -> None:
    script = """
limit = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (writer + 1, limit[1]))
try:
    fork(1)
except ForkRefused as refused:
    print(refused)
resource.setrlimit(resource.RLIMIT_NOFILE, limit)
fork(2)
print(told())
"""
    assert said(script) == ["Too many open files", "([(2, 0)], False)"]


def test_a_process_that_is_forked_watches_none_of_its_elders() -> None:
    script = """
fork(1, signal.pause)
elder, = (each.pid for each in forks._living.values())

def look():
    print([each for each in range(writer + 1, 100) if os.path.exists(f"/proc/self/fd/{each}")], flush=True)
    os._exit(0)

fork(2, look)
print(told())
os.kill(elder, signal.SIGKILL)
print(told())
"""
    assert said(script) == ["[]", "([(2, 0)], False)", "([(1, 9)], False)"]

"""What a worker or an import has started does not outlive it, and what must run once runs once."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.endings import ENDINGS, PRELOADS, WSGI, Ending, Serve, reload, stop
from tests.support.processes import is_alive
from tests.support.service import Service, wait_until
from tests.support.templates import kill_template

CHILDREN = {
    "a daemonic process of multiprocessing": """
import multiprocessing, time
def answer(path):
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=[1000], daemon=True)
    child.start()
    return str(child.pid)
""",
    "a process pool": """
import concurrent.futures, multiprocessing, os
pools = []
def answer(path):
    pools.append(concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("fork")))
    return str(pools[-1].submit(os.getpid).result())
""",
    "a process pool, imported late": """
pools = []
def answer(path):
    import concurrent.futures, multiprocessing, os
    pools.append(concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))
    return str(pools[-1].submit(os.getpid).result())
""",
    "a program": """
import subprocess
programs = []
def answer(path):
    programs.append(subprocess.Popen(["sleep", "1000"]))
    return str(programs[-1].pid)
""",
    "a program in a session of its own": """
import subprocess
programs = []
def answer(path):
    programs.append(subprocess.Popen(["sleep", "1000"], start_new_session=True))
    return str(programs[-1].pid)
""",
    "a child of a program that has ended": """
import subprocess
def answer(path):
    return subprocess.run(["sh", "-c", "sleep 1000 > /dev/null 2>&1 & echo $!"], capture_output=True, text=True).stdout
""",
    "a program that ignores SIGTERM": """
import subprocess
programs = []
def answer(path):
    program = subprocess.Popen(["sh", "-c", "trap '' TERM; echo; while :; do sleep 1; done"], stdout=subprocess.PIPE)
    program.stdout.readline()
    programs.append(program)
    return str(program.pid)
""",
}


@pytest.mark.parametrize("child", CHILDREN)
@ENDINGS
def test_the_children_of_a_worker_end_with_it(serve: Serve, end: Ending, child: str) -> None:
    noted = serve(CHILDREN[child] + WSGI)
    pid = int(noted.ask())
    assert is_alive(pid)
    noted.after(end)
    wait_until(lambda: not is_alive(pid), "the child is gone")


@pytest.mark.parametrize("child", CHILDREN)
def test_they_end_when_it_is_killed(serve: Serve, child: str) -> None:
    noted = serve(CHILDREN[child] + WSGI)
    pid = int(noted.ask())
    os.kill(noted.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "the child is gone")
    noted.service.wait_for_status(r"^Serving: ")


@pytest.mark.parametrize("child", CHILDREN)
def test_they_end_with_a_worker_whose_master_was_killed(serve: Serve, child: str) -> None:
    noted = serve(CHILDREN[child] + WSGI)
    pid = int(noted.ask())
    noted.after(lambda service: service.signal(signal.SIGKILL))
    wait_until(lambda: not is_alive(pid), "the child is gone")


@pytest.mark.parametrize("is_lost", [True, False])
def test_a_master_that_is_lost_counts_as_dead_while_it_is_still_the_parent(is_lost: bool) -> None:
    program = f"""
import os, subprocess
from clusterd.log import Level, Logger, open_sink
from clusterd.process.abandoned import end_own_processes
os.setpgid(0, 0)
program = subprocess.Popen(["sleep", "1000"], stdout=subprocess.DEVNULL)
end_own_processes(os.getppid(), os.getppid(), Logger(open_sink(os.environ), Level.ERROR), is_lost={is_lost})
print(os.path.exists(f"/proc/{{program.pid}}"))
program.kill()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == f"{not is_lost}\n"


def test_what_has_left_its_worker_ends_with_the_service(serve: Serve) -> None:
    noted = serve(
        """
import subprocess
def answer(path):
    program = subprocess.Popen(["sleep", "1000"], start_new_session=True, env={"PATH": "/bin:/usr/bin"})
    return str(program.pid)
"""
        + WSGI
    )
    pid = int(noted.ask())
    noted.after(reload)
    second = int(noted.ask())
    assert is_alive(pid)
    stop(noted.service)
    assert not is_alive(pid)
    assert not is_alive(second)


AT_IMPORT = {
    "a process of multiprocessing": """
import multiprocessing, time
process = multiprocessing.get_context("fork").Process(target=time.sleep, args=[1000], daemon=True)
process.start()
THE_PID = process.pid
""",
    "a program": """
import subprocess
program = subprocess.Popen(["sleep", "1000"])
THE_PID = program.pid
""",
    "a program with an exit handler": """
import atexit, subprocess
program = subprocess.Popen(["sleep", "1000"])
atexit.register(program.kill)
THE_PID = program.pid
""",
}


@pytest.mark.parametrize("child", AT_IMPORT)
@PRELOADS
def test_what_the_import_has_started_ends_with_its_generation(serve: Serve, child: str, preload: bool) -> None:
    noted = serve(AT_IMPORT[child] + "def answer(path):\n    return str(THE_PID)\n" + WSGI, preload=preload)
    first = int(noted.ask())
    noted.service.clusterctl("restart", "1")
    assert is_alive(int(noted.ask()))
    if preload:
        assert is_alive(first)
    else:
        wait_until(lambda: not is_alive(first), "what the worker's own import has started is gone")
    noted.after(reload)
    wait_until(lambda: not is_alive(first), "what the first generation has started is gone")
    second = int(noted.ask())
    assert second != first
    assert is_alive(second)
    stop(noted.service)
    assert not is_alive(second)


TELL = """
with open(THE_FILE, "w") as file:
    file.write(f"{THE_PID} {directory.name} {removed}")
"""

ONCE = """
import atexit, os, tempfile, weakref
directory = tempfile.TemporaryDirectory(prefix="once-")
removed = tempfile.mkdtemp(prefix="once-")
import shutil
atexit.register(shutil.rmtree, removed)
class Held: pass
held = Held()
weakref.finalize(held, note, "finalized")
def answer(path):
    return " ".join(each for each in (directory.name, removed) if os.path.isdir(each))
"""


def test_what_the_import_has_made_is_removed_once_after_the_last_worker(serve: Serve) -> None:
    noted = serve(ONCE + WSGI)
    made = noted.ask().split()
    assert len(made) == 2
    noted.service.clusterctl("restart", "1")
    assert noted.ask().split() == made
    noted.after(reload)
    wait_until(lambda: not any(Path(each).exists() for each in made), "what the first generation has made is gone")
    assert noted.of_worker() == []
    assert noted.of_others() == ["finalized"]
    after = noted.ask().split()
    assert len(after) == 2
    stop(noted.service)
    assert not any(Path(each).exists() for each in after)
    assert noted.of_others() == ["finalized", "finalized"]


def test_it_is_removed_after_the_template_has_died(serve: Serve) -> None:
    noted = serve(ONCE + WSGI)
    made = noted.ask().split()
    kill_template(noted.service)
    noted.after(reload)
    wait_until(lambda: not any(Path(each).exists() for each in made), "what the first generation has made is gone")
    assert noted.of_others() == ["finalized"]
    stop(noted.service)


def test_a_check_leaves_nothing(make_service: Callable[..., Service], tmp_path: Path) -> None:
    service = make_service()
    told = f"THE_FILE = {str(tmp_path / 'made')!r}\nnote = print\n"
    service.deploy("1", told + AT_IMPORT["a program"] + ONCE + TELL + WSGI)
    check = [sys.executable, *service.arguments, "--check"]
    done = subprocess.run(check, check=False, cwd=tmp_path, timeout=60)
    assert done.returncode == 0
    pid, *made = (tmp_path / "made").read_text().split()
    assert len(made) == 2
    assert not any(Path(each).exists() for each in made)
    wait_until(lambda: not is_alive(int(pid)), "the program is gone")

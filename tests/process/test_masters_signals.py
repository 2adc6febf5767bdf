"""What is meant for the master and reaches every process of the service: `systemctl kill -s HUP`, and the like."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from clusterd.linux.masters_signals import EARLY, REQUESTS
from clusterd.master.children.spawn import Role, spawn
from clusterd.supervisor.events import StopAsked
from tests.support.processes import descendants
from tests.support.service import HELLO, Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]

HOOKS = 'from clusterd import cluster\ncluster.on("exit")(lambda *what: print("hook: exit", flush=True))\n'

SHOWS_CHILDREN = (
    HELLO
    + """
import subprocess
inner = app
def app(environ, start_response):
    if environ["PATH_INFO"] != "/child":
        return inner(environ, start_response)
    start_response("200 OK", [])
    return [subprocess.run(["cat", "/proc/self/status"], capture_output=True, check=True).stdout]
"""
)

HAS_ITS_OWN = (
    "import signal\n"
    "for each in (signal.SIGHUP, signal.SIGINT):\n"
    "    signal.signal(each, lambda number, _: print(f'own handler of {number}', flush=True))\n" + HELLO
)


def family(service: Service) -> dict[int, str]:
    """Every process below the master, with its title."""
    found = {}
    for pid in descendants(service.pid):
        try:
            found[pid] = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0")
        except OSError:
            continue
    return found


def whole_family(service: Service) -> dict[int, str]:
    """The same, once it is complete: template, spare, hooks and two workers."""

    def complete() -> dict[int, str] | None:
        found = family(service)
        return found if len(found) == 5 and any("spare" in title for title in found.values()) else None

    found: dict[int, str] = wait_until(complete, "all are there")
    return found


def kill_all(service: Service, number: signal.Signals) -> None:
    """As systemd does: the master first, then the others of its control group."""
    others = descendants(service.pid)
    service.signal(number)
    for pid in others:
        with suppress(ProcessLookupError):  # the stop may be quick
            os.kill(pid, number)


@pytest.fixture
def service(make_service: MakeService) -> Service:
    made = make_service(workers=2, hooks="cluster_hooks")
    (made.directory / "cluster_hooks.py").write_text(HOOKS)
    return made


class Visitors:
    """Ask again and again until told to stop; what was not answered is kept."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(3)]
        self.answered = 0
        self.troubles: list[object] = []

    def __enter__(self) -> "Visitors":
        for thread in self._threads:
            thread.start()
        wait_until(lambda: self.answered, "somebody is answered")
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._enough.is_set():
            try:
                self._service.ask()
                self.answered += 1
            except Exception as error:
                self.troubles.append(error)


@pytest.mark.parametrize("number", sorted(REQUESTS | {signal.SIGURG, signal.SIGWINCH}))
def test_a_request_to_all_of_them_ends_none(service: Service, number: signal.Signals) -> None:
    service.start()
    before = whole_family(service)
    with Visitors(service) as visitors:
        for pid in before:
            os.kill(pid, number)
        seen = visitors.answered
        wait_until(lambda: visitors.answered > seen + 20, "they go on asking")
    assert visitors.troubles == []
    assert family(service) == before


def test_a_reload_that_is_asked_of_all_of_them_is_one_of_the_master(service: Service) -> None:
    service.start()
    whole_family(service)
    with Visitors(service) as visitors:
        kill_all(service, signal.SIGHUP)
        service.wait_for_status("^Serving: 2 workers, generation 2; reloaded at ")
    assert visitors.troubles == []
    assert "died" not in service.log() and "failed" not in service.log()


def test_a_state_that_is_asked_of_all_of_them_is_written(service: Service) -> None:
    service.start()
    before = whole_family(service)
    kill_all(service, signal.SIGUSR1)
    service.wait_for_line("slot=2 generation=1")
    assert family(service) == before


def test_an_upgrade_that_is_asked_of_all_of_them_is_the_masters(service: Service) -> None:
    service.start()
    whole_family(service)
    kill_all(service, signal.SIGUSR2)
    service.wait_for_status("generation 2; reloaded at ")
    assert "worker failed" not in service.log()
    assert "template died" not in service.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_that_is_asked_of_all_of_them_is_an_orderly_one(service: Service, number: signal.Signals) -> None:
    service.deploy("1", "import time\n" + HELLO.replace("    body", "    time.sleep(0.5)\n    body"))
    service.start()
    whole_family(service)
    answers: list[object] = []
    visitor = threading.Thread(target=lambda: answers.append(service.ask().version))
    visitor.start()
    wait_until(lambda: any(worker["in_flight"] for worker in service.workers()), "the request is under way")
    kill_all(service, number)
    visitor.join()
    assert answers == ["1"]
    assert service.wait() == 0
    assert "Traceback" not in service.log() and "error:" not in service.log()


def test_hooks_are_not_ended_by_what_they_leave_to_the_master(service: Service) -> None:
    service.start()
    before = whole_family(service)
    refused = service.clusterctl("kill", "hooks")
    assert refused.returncode == 1
    assert "--signal KILL" in refused.stderr
    assert family(service) == before


@pytest.mark.parametrize("role", list(Role))
def test_what_comes_at_once_waits(role: Role) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        pid = spawn(role, sys.executable, theirs, dict(os.environ))
        for number in EARLY:
            os.kill(pid, number)
    # With its channel closed it leaves in peace.
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, signal.Signals(os.WTERMSIG(status))


def test_what_the_application_starts_is_as_if_from_a_shell(service: Service) -> None:
    service.deploy("1", SHOWS_CHILDREN)
    service.start()
    fields = dict(line.split(":\t", 1) for line in service.get("/child").text.splitlines())
    bits = sum(1 << number - 1 for number in EARLY)
    for which in ("SigBlk", "SigIgn"):
        assert int(fields[which], 16) & bits == 0, which


def test_handlers_of_the_application_stay(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.deploy("1", HAS_ITS_OWN)
    service.start()
    before = service.workers()[0]["pid"]
    for number in (signal.SIGHUP, signal.SIGINT):
        os.kill(before, number)
        service.wait_for_line(f"own handler of {int(number)}")
    assert service.workers()[0]["pid"] == before


FORKS = (
    HELLO
    + """
import multiprocessing, time
def fork_one():
    forked = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
    forked.start()
    forked.terminate()
    forked.join()
fork_one()
inner = app
def app(environ, start_response):
    fork_one()
    return inner(environ, start_response)
"""
)


def test_what_the_application_forks_is_ended_by_a_stop(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.deploy("1", FORKS)
    assert service.start().ask().version == "1"


def test_a_template_that_is_killed_early_is_not_taken_for_no_interpreter(make_service: MakeService) -> None:
    service = make_service(workers=1)
    killer = service.directory / "python"
    killer.write_text("#!/bin/sh\nkill -KILL $$\n")
    killer.chmod(0o755)
    service.configure(python=str(killer))
    service.start(wait=False)
    service.wait_for_line("the template was killed before it could say anything: SIGKILL")
    assert service.wait() == 70


FLOODED = """
import asyncio, os, signal
from clusterd.master.signals import handle_signals
async def main():
    loop, told = asyncio.get_running_loop(), asyncio.Queue()
    handle_signals(loop, told.put_nowait, lambda: told.put_nowait("reap"), lambda: told.put_nowait("state"), print)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1):
        # As threads do that give the loop much to do at once.
        for _ in range(2000):
            loop.call_soon_threadsafe(int)
        os.kill(os.getpid(), number)
        print(await asyncio.wait_for(told.get(), 60), flush=True)
asyncio.run(main())
"""


def test_a_signal_reaches_a_master_whose_threads_have_woken_it_often() -> None:
    ran = subprocess.run([sys.executable, "-c", FLOODED], capture_output=True, text=True, timeout=300, check=False)
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == [repr(StopAsked()), "reap", "state"]


CLOSING = """
import asyncio, os, signal
from clusterd.master.signals import handle_signals
loop = asyncio.new_event_loop()
handle_signals(loop, print, print, print, print)
taken_away = loop.remove_signal_handler
def late(number):
    os.kill(os.getpid(), signal.SIGCHLD)
    return taken_away(number)
loop.remove_signal_handler = late
loop.close()
"""


def test_a_child_that_ends_while_the_loop_is_closed_is_no_error() -> None:
    ran = subprocess.run([sys.executable, "-c", CLOSING], capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr

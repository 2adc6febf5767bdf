"""Profiles of running workers, and what their memory is used for, by clusterctl."""

import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.controlling import asking, pids, refused
from tests.support.endings import PRELOADS
from tests.support.processes import open_files
from tests.support.service import PATIENCE_SECONDS, Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]

LIBC = ctypes.CDLL(None, use_errno=True)
SYS_TGKILL = {"x86_64": 234, "aarch64": 131}[os.uname().machine]

BUSY = """
import time
def compute():
    total = 0
    for number in range(60_000):
        total += number * number
    return total
"""
LONG = BUSY.replace("60_000", "1_000_000")
"""For which all else is nothing, also on a busy machine."""
ASGI = """
import asyncio
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await answer(scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x"})
"""
WSGI = """
def app(environ, start_response):
    answer(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", "1")])
    return [b"x"]
"""
SLEEPER = """
async def outer():
    await inner()
async def inner():
    await asyncio.sleep(1000)
async def answer(path):
    if path == "/wait":
        await outer()
    elif path == "/block":
        block()
    else:
        compute()
def block():
    time.sleep(4)
"""
OFTEN = """
        for _ in range(20):
            compute()
            await asyncio.sleep(0)
"""


@contextmanager
def load(service: Service, path: str = "/") -> Iterator[None]:
    """Ask again and again, from two clients. The application answers at least one request."""
    is_over, answered = threading.Event(), threading.Event()

    def ask_on() -> None:
        with requests.Session() as session:
            while not is_over.is_set():
                session.get(f"http://127.0.0.1:{service.port}{path}", timeout=PATIENCE_SECONDS)
                answered.set()

    clients = [threading.Thread(target=ask_on) for _ in range(2)]
    for client in clients:
        client.start()
    assert answered.wait(PATIENCE_SECONDS)
    try:
        yield
    finally:
        is_over.set()
        for client in clients:
            client.join()


def largest(stacks: dict[str, int], view: str) -> str:
    """The function with most time of its own."""
    own: dict[str, int] = {}
    for stack, time in stacks.items():
        if stack.startswith(view):
            name = stack.rpartition(";")[2]
            own[name] = own.get(name, 0) + time
    return max(own, key=lambda name: own[name])


@contextmanager
def pending(service: Service, path: str) -> Iterator[None]:
    """A request that is in the application's hands."""
    with socket.create_connection(("127.0.0.1", service.port)) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        wait_until(lambda: sum(each["in_flight"] for each in service.workers()), "it is in flight")
        yield


def profiled(service: Service, slot: str = "1", seconds: int = 2, **more: str) -> dict[str, int]:
    """Collapsed stacks with their microseconds, without the places of functions."""
    flags = [part for name, value in more.items() for part in (f"--{name}", value)]
    command = ("profile", slot, "--seconds", str(seconds), "--format", "collapsed", "--output", "-", *flags)
    done = service.clusterctl(*command)
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = {}
    for line in done.stdout.splitlines():
        stack, _, time = re.sub(r" \([^;]*?\)(?=;| \d+$)", "", line).rpartition(" ")
        found[stack] = found.get(stack, 0) + int(time)
    return found


def control_of(service: Service) -> list[str]:
    return [sys.executable, "-m", "clusterd.cli.clusterctl", "--socket", str(service.control)]


@PRELOADS
def test_a_function_that_computes_in_a_task_is_the_largest(make_service: MakeService, preload: bool) -> None:
    # It takes less than the 5 ms for which Python keeps its lock: a sampler that waits that long never sees it. But it
    # is called so often that all else in a request is nothing.
    service = make_service(workers=1, preload=preload)
    service.deploy("1", BUSY + ASGI + SLEEPER.replace("        compute()", OFTEN))
    service.start()
    with load(service):
        stacks = profiled(service)
    assert largest(stacks, "processor") == "compute"
    assert any(stack.startswith("elapsed time of threads") and stack.endswith(";compute") for stack in stacks)


def test_a_function_that_computes_in_a_thread_is_the_largest(make_service: MakeService) -> None:
    service = make_service(workers=1, threads=4)
    service.deploy("1", LONG + WSGI + "def answer(path): compute()\n")
    service.start()
    with load(service):
        stacks = profiled(service, seconds=4)
    assert largest(stacks, "processor") == "compute"
    assert any(stack.startswith("processor time of threads;clusterd-N;") for stack in stacks)


def test_what_a_task_waits_for_is_shown_with_its_callers(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.deploy("1", BUSY + ASGI + SLEEPER)
    service.start()
    with pending(service, "/wait"):
        stacks = profiled(service)
    ((stack, time),) = [each for each in stacks.items() if each[0].startswith("elapsed time of tasks")]
    assert stack.endswith(";app;answer;outer;inner;sleep")
    assert time > 1e6


def test_a_loop_that_is_blocked_is_seen_by_signals(make_service: MakeService) -> None:
    service = make_service(workers=1, timeouts={"stall": "off"})
    service.deploy("1", BUSY + ASGI + SLEEPER.replace("sleep(4)", "sleep(1000)"))
    service.start()
    with pending(service, "/block"):
        done = service.clusterctl("profile", "1", "--seconds", "2", "--format", "collapsed", "--output", "-")
        memory = service.clusterctl("memory", "1", "--seconds", "1")
        stacks = service.clusterctl("stacks", "1").stdout
        service.signal(signal.SIGQUIT)
    assert "the event loop did not turn: threads were asked by" in done.stderr
    assert re.search(r"^elapsed time of threads;a thread, by signals;.*;answer .*;block \S+ \d{6,}$", done.stdout, re.M)
    assert memory.returncode == 1
    assert "worker 1 did not begin within 5 s: its event loop does not turn" in memory.stderr
    # What was written for the profile is not in it.
    assert stacks.count("in block") == 1


def test_a_loop_that_turns_again_is_sampled_from_then_on(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.deploy("1", BUSY + ASGI + SLEEPER)
    service.start()
    with pending(service, "/block"):
        stacks = profiled(service, seconds=6)
    assert any("by signals" in stack and stack.endswith(";block") for stack in stacks)
    assert any(stack.startswith("elapsed time of threads;MainThread;") for stack in stacks)


def test_a_loop_that_is_blocked_later_is_sampled_as_before(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.deploy("1", BUSY + ASGI + SLEEPER)
    service.start()
    with asking(service, command="profile", slot=1, seconds=3) as lines:
        assert json.loads(next(lines))["type"] == "progress"
        wait_until(lambda: _open_files(service, "clusterd-examination"), "the worker has read the order")
        with pending(service, "/block"):
            result = json.loads(next(lines))
    assert (result["succeeded"], result["data"]["dump_count"]) == (True, 0)


def _open_files(service: Service, name: str) -> list[str]:
    """Those of worker 1 with such a name."""
    return [target for target in open_files(pids(service)[1]).values() if name in target]


def test_greenlets_are_sampled(make_service: MakeService) -> None:
    source = """
from gevent import monkey
monkey.patch_all()
import gevent
def background():
    resting()
def resting():
    gevent.sleep(1000)
def answer(path):
    if path == "/spawn":
        gevent.spawn(background)
    elif path == "/wait":
        wait_in_request()
    else:
        compute()
def wait_in_request():
    gevent.sleep(1000)
"""
    service = make_service(workers=1, timeouts={"drain": "1s"})
    service.deploy("1", source + LONG + WSGI)
    service.start()
    requests.get(f"http://127.0.0.1:{service.port}/spawn", timeout=PATIENCE_SECONDS)
    with pending(service, "/wait"), load(service):
        stacks = profiled(service)
    assert largest(stacks, "processor") == "compute"
    greenlets = [stack for stack in stacks if stack.startswith("elapsed time of greenlets;")]
    assert any(";background;resting;" in stack for stack in greenlets)
    assert any(";wait_in_request;" in stack for stack in greenlets)


def test_a_worker_that_runs_a_function_is_profiled(make_service: MakeService) -> None:
    source = LONG + "def main():\n    while True:\n        compute()\n"
    service = make_service(app=None, run="app:main", listen=None, workers=1, timeouts={"drain": "1s"})
    service.deploy("1", source)
    service.start()
    stacks = profiled(service)
    assert largest(stacks, "processor") == "compute"


def test_all_workers_are_profiled_together_into_a_new_file(make_service: MakeService, tmp_path: Path) -> None:
    service = make_service(workers=3, threads=2)
    service.deploy("1", LONG + WSGI + "def answer(path): compute()\n")
    service.start()
    with load(service):
        done = subprocess.run(
            [*control_of(service), "profile", "all", "--seconds", "2"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
    (written,) = tmp_path.glob("profile-all-*.svg")
    assert done.stdout.startswith(f"written to {written.name}: open it in a browser\nprocessor time: ")
    assert re.search(r"^ *[5-9]\d\.\d%  compute \(", done.stdout, re.M)
    svg = ET.fromstring(written.read_bytes())
    assert svg.tag == "{http://www.w3.org/2000/svg}svg"
    assert any(box.get("data-name") == "compute" for box in svg.iter("{http://www.w3.org/2000/svg}g"))


def test_programs_are_told_what_was_written(make_service: MakeService, tmp_path: Path) -> None:
    service = make_service(workers=1).start()
    output = tmp_path / "shop.json"
    command = ("profile", "1", "--seconds", "1", "--format", "speedscope", "--output", str(output), "--json")
    told = json.loads(service.clusterctl(*command).stdout)
    assert (told["succeeded"], told["file"], told["failures"]) == (True, str(output), [])
    assert json.loads(output.read_text())["$schema"] == "https://www.speedscope.app/file-format-schema.json"


def test_what_cannot_be_written_is_refused_before_it_is_made(make_service: MakeService) -> None:
    service = make_service(workers=1).start()
    assert "no file can be written there" in refused(service, "profile", "1", "--output", "/nowhere/profile.svg")
    assert "profile asked for" not in service.log()
    assert refused(service, "profile", "2", "--seconds", "1") == "there is no slot 2: they are 1 to 1\n"


def test_a_worker_that_dies_meanwhile_is_named_and_the_others_are_written(make_service: MakeService) -> None:
    service = make_service(workers=2)
    service.start()
    victim = pids(service)[1]

    def kill() -> None:
        service.wait_for_line("profile asked for on the control socket slot=1")
        os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    done = service.clusterctl("profile", "all", "--seconds", "2", "--format", "collapsed", "--output", "-")
    killer.join()
    assert done.returncode == 1
    assert f"worker 1 (pid {victim}) has ended while it was examined; `clusterctl events` says of what" in done.stderr
    assert "elapsed time of threads;MainThread;" in done.stdout


def test_a_worker_is_profiled_by_one_at_a_time(make_service: MakeService) -> None:
    service = make_service(workers=1).start()
    with asking(service, command="profile", slot=1, seconds=600) as lines, lines:
        next(lines)
        assert "worker 1 is being examined already (profile), for another " in refused(service, "profile", "1")
        assert "worker 1 is being examined already (profile)" in refused(service, "memory", "1")
    # Whoever has asked has gone, and the worker stops sampling.
    wait_until(lambda: service.clusterctl("memory", "1", "--seconds", "1").returncode == 0, "it is free again")


def test_an_interrupt_ends_the_sampling_too(make_service: MakeService) -> None:
    service = make_service(workers=1).start()
    command = [*control_of(service), "profile", "1", "--seconds", "600"]
    asked = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: _open_files(service, "clusterd-examination"), "the worker samples")
    asked.send_signal(signal.SIGINT)
    _, said = asked.communicate(timeout=PATIENCE_SECONDS)
    assert (asked.returncode, said) == (130, "clusterctl: interrupted; clusterd calls it off\n")
    wait_until(lambda: not _open_files(service, "clusterd-examination"), "the worker has stopped")


def test_an_interrupt_that_ends_no_system_call_is_heeded(make_service: MakeService) -> None:
    service = make_service(workers=1).start()
    command = [*control_of(service), "profile", "1", "--seconds", "600"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as asked:
        wait_until(lambda: _open_files(service, "clusterd-examination"), "the worker samples")
        (other,) = {int(each.name) for each in Path(f"/proc/{asked.pid}/task").iterdir()} - {asked.pid}
        assert LIBC.syscall(SYS_TGKILL, asked.pid, other, signal.SIGINT) == 0  # The main thread waits on.
        try:
            assert asked.wait(PATIENCE_SECONDS) == 130
        finally:
            asked.kill()


def test_a_worker_that_drains_is_profiled_until_it_ends(make_service: MakeService) -> None:
    service = make_service(workers=1, timeouts={"drain": "60s"})
    service.deploy("1", LONG + ASGI + SLEEPER)
    service.start()
    with asking(service, command="profile", slot=1, seconds=600) as lines:
        next(lines)
        service.reload()
        result = json.loads(next(lines))
    assert "has ended while it was examined" in result["text"]


def test_a_worker_that_stands_still_survives_every_profile(make_service: MakeService) -> None:
    service = make_service(workers=1).start()
    pid = pids(service)[1]
    os.kill(pid, signal.SIGSTOP)
    for _ in range(300):
        with asking(service, command="profile", slot=1, seconds=600) as lines, lines:
            next(lines)
    os.kill(pid, signal.SIGCONT)
    command = ("profile", "1", "--seconds", "1", "--output", "-")
    wait_until(lambda: service.clusterctl(*command).returncode == 0, "it is profiled again")
    assert pids(service)[1] == pid
    assert "the master is gone" not in service.log()


LEAK = """
KEPT = []
class Order:
    def __init__(self):
        self.items = bytes(10_000)
def answer(path):
    KEPT.append(Order())
"""


def memory_of(service: Service, seconds: int = 2) -> dict[str, Any]:
    done = service.clusterctl("memory", "1", "--seconds", str(seconds), "--json")
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("threads", [0, 4])
def test_the_line_that_leaks_is_the_first(make_service: MakeService, threads: int) -> None:
    service = make_service(workers=1, threads=threads)
    service.deploy("1", LEAK + WSGI)
    service.start()
    with load(service):
        told = memory_of(service)
    first = told["sites"][0]
    assert first["stack"][0] == {
        "path": str(service.application),
        "number": 5,
        "text": "self.items = bytes(10_000)",
    }
    assert first["size"] >= 10_000 * first["count"] * 0.9
    assert any(name.endswith(".Order") and change > 0 for name, _, change in _types(told))
    before, after = told["private_bytes"]
    assert after > before > 0


def _types(told: dict[str, Any]) -> Iterator[tuple[str, int, int]]:
    for each in told["types"]:
        yield each["name"], each["count"], each["change"]


def test_people_see_the_line_and_what_called_it(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.deploy("1", LEAK + WSGI)
    service.start()
    with load(service):
        shown = service.clusterctl("memory", "1", "--seconds", "1").stdout
    assert re.match(r"worker 1 \(pid \d+\), for [\d.]+ s\nprivate memory: [\d.]+ MiB \([+-][\d.]+ [KM]iB\)", shown)
    assert re.search(r"iB  in [\d,]+  \S+app.py:5  self.items = bytes\(10_000\)\n +from \S+app.py:7  KEPT", shown)


TRACES = """
import tracemalloc
def answer(path):
    pass
def app(environ, start_response):
    said = str(tracemalloc.is_tracing()).encode()
    start_response("200 OK", [("Content-Length", str(len(said)))])
    return [said]
"""


@pytest.mark.parametrize("by_application", [False, True])
def test_tracing_ends_unless_it_is_the_applications(make_service: MakeService, by_application: bool) -> None:
    service = make_service(workers=1)
    service.deploy("1", TRACES + ("tracemalloc.start()\n" if by_application else ""))
    service.start()
    told = memory_of(service, 1)
    assert told["traced_by_application"] is by_application
    answer = requests.get(f"http://127.0.0.1:{service.port}/", timeout=PATIENCE_SECONDS).text
    assert answer == str(by_application)

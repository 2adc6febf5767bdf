"""The system gives no more of something: what cannot be done is said, and what is known stays true."""

import json
import os
import resource
import signal
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.clients import REQUEST, answer, connect
from tests.support.control_groups import put_into
from tests.support.processes import cpu_seconds
from tests.support.service import HELLO, PATIENCE_SECONDS, Service, wait_until
from tests.support.templates import titled

MakeService = Callable[..., Service]


def test_a_reload_without_descriptors_fails_and_leaves_nothing_behind(make_service: MakeService) -> None:
    service = make_service(timeouts={"drain": "5s", "drain_idle": "1s"}).start()
    before = resource.prlimit(service.pid, resource.RLIMIT_NOFILE)
    # The spare comes a moment after the workers; from then on nothing needs a descriptor.
    wait_until(lambda: "spare" in titles(service.pid), "there is a spare template")
    in_use = len(os.listdir(f"/proc/{service.pid}/fd"))
    resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (in_use, before[1]))
    service.signal(signal.SIGHUP)
    service.wait_for_line("reload failed, generation 1 serves on: .*Too many open files")
    resource.prlimit(service.pid, resource.RLIMIT_NOFILE, before)
    assert service.reload().returncode == 0
    assert service.ask().generation > 1
    assert service.stop() == 0


def titles(master: int) -> str:
    """The command lines of the children of a process."""
    children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    return " ".join(Path(f"/proc/{child}/cmdline").read_text() for child in children)


def test_a_worker_without_descriptors_still_hears_what_it_is_told(make_service: MakeService) -> None:
    """It took the message that came with one for the end of its master."""
    service = make_service(workers=1).start()
    (pid,) = [worker["pid"] for worker in service.workers()]
    with no_more_descriptors(pid):
        assert service.reload().returncode == 0
    service.wait_for_line(f"worker ended: exit status 0 .*pid={pid} reason=rollout")
    service.wait_for_line(f"there are no descriptors left for connections: raise LimitNOFILE= .*pid={pid}")
    assert "the master is gone" not in service.log()


SCHEDULINGS = ["least_connections", "shared", "round_robin"]
NO_DESCRIPTORS = "warning: there are no descriptors left for connections: raise LimitNOFILE= of the unit"


@pytest.mark.parametrize("scheduling", SCHEDULINGS)
def test_a_worker_without_descriptors_leaves_clients_to_others_at_once(
    make_service: MakeService, scheduling: str
) -> None:
    service = make_service(workers=2, scheduling=scheduling).start()
    lacking, serving = [worker["pid"] for worker in service.workers()]
    waits = []
    with no_more_descriptors(lacking):
        for _ in range(21):
            began = time.monotonic()
            assert service.ask().pid == serving
            waits.append(time.monotonic() - began)
    # A worker looks for what others leave behind four times a second.
    assert statistics.median(waits) < 0.125
    service.wait_for_line(f"{NO_DESCRIPTORS} .*pid={lacking}")
    assert service.log().count("no descriptors left") == 1
    wait_until(lambda: service.ask().pid == lacking, "it serves again")


@pytest.mark.parametrize("scheduling", SCHEDULINGS)
def test_clients_wait_without_a_busy_loop_until_there_are_descriptors(
    make_service: MakeService, scheduling: str
) -> None:
    service = make_service(workers=2, scheduling=scheduling).start()
    workers = [worker["pid"] for worker in service.workers()]
    with ExitStack() as clients:
        with ExitStack() as shortage:
            for pid in workers:
                shortage.enter_context(no_more_descriptors(pid))
            waiting = [clients.enter_context(connect(service)) for _ in range(8)]
            for client in waiting:
                client.sendall(REQUEST)
            service.wait_for_line(NO_DESCRIPTORS)
            began, used = time.monotonic(), sum(map(cpu_seconds, (service.pid, *workers)))
            wait_until(lambda: time.monotonic() - began > 1.5, "a busy loop would be seen")
            share = (sum(map(cpu_seconds, (service.pid, *workers))) - used) / (time.monotonic() - began)
            assert share < 0.5
            assert service.metrics("/healthz").status_code == 200
        assert {int(answer(client).split()[0]) for client in waiting} <= set(workers)
    assert "worker failed" not in service.log()


@contextmanager
def no_more_descriptors(pid: int) -> Iterator[None]:
    """For the length of the block, or of its life, a process gets none."""
    taken = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    lowest_free = min(set(range(len(taken) + 1)) - taken)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free, before[1]))
    yield
    if Path(f"/proc/{pid}").exists():
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


HOLD = """
    while environ["PATH_INFO"] == "/hold" and not os.path.exists("go"):
        __import__("time").sleep(0.01)
    body"""
HOLDS = HELLO.replace("    body", HOLD, 1)
TASKS = "Resource temporarily unavailable; what limits it is TasksMax= of the unit"


def test_a_fork_that_is_refused_is_tried_again_and_says_what_limits_it(
    few_tasks: Path, make_service: MakeService
) -> None:
    service = make_service(workers=2, threads=2)
    service.deploy("1", HOLDS)
    put_into(few_tasks, service)
    service.start()
    wait_until(lambda: titled(service, "spare"), "there is a spare")
    killed, other = [worker["pid"] for worker in service.workers()]
    limit = few_tasks / "pids.max"
    limit.write_text("1")
    os.kill(killed, signal.SIGKILL)
    service.wait_for_line(f"worker failed: fork failed: {TASKS}.* trying again in")
    assert {service.ask().pid for _ in range(10)} == {other}
    # Its first thread was there from the start, and it makes do with that.
    with ThreadPoolExecutor(2) as pool:
        held = [pool.submit(service.get, "/hold") for _ in range(2)]
        service.wait_for_line(f"warning: 1 of 2 threads .*{TASKS}")
        (service.directory / "go").touch()
        assert [each.result().status_code for each in held] == [200, 200]
    limit.write_text("max")
    service.wait_for_status("^Serving: 2 workers, generation 1$")


def test_a_reload_that_may_make_no_process_fails_and_says_what_limits_it(
    few_tasks: Path, make_service: MakeService
) -> None:
    service = make_service(workers=1)
    put_into(few_tasks, service)
    service.start()
    wait_until(lambda: titled(service, "spare"), "there is a spare")
    (few_tasks / "pids.max").write_text("1")
    service.signal(signal.SIGHUP)
    service.wait_for_line(f"reload failed, generation 1 serves on: python: cannot run .*{TASKS}")
    assert service.ask().generation == 1
    (few_tasks / "pids.max").write_text("max")
    assert service.reload().returncode == 0


def test_a_worker_that_gets_no_thread_is_not_ready(make_service: MakeService) -> None:
    service = make_service(workers=1, threads=2, worker_start="app:begin")
    begin = "def begin():\n    import threading\n    def refuse(_): raise RuntimeError\n"
    service.deploy("1", HELLO + begin)
    service.start()
    service.deploy("2", HELLO + begin + "    threading.Thread.start = threading._start_new_thread = refuse\n")
    done = service.reload()
    assert done.returncode == 1
    assert f"no thread can be started for the application: {TASKS}" in done.stderr
    assert service.ask().version == "1"


def test_a_start_that_lacks_descriptors_says_so_and_can_be_stopped(make_service: MakeService) -> None:
    service = make_service(workers=40)
    service.inside = ("prlimit", "--nofile=64:64", "--")
    service.start(wait=False)
    service.wait_for_line("worker failed: .*Too many open files")
    assert service.stop() == 0
    assert len(service.lines) < 300


def test_fewer_descriptors_than_connections_are_a_warning(make_service: MakeService) -> None:
    service = make_service(limits={"connections": 500})
    service.inside = ("prlimit", "--nofile=400:400", "--")
    service.start()
    line = service.wait_for_line("limits.connections is 500, and the limit of descriptors leaves 272 to a worker")
    assert "raise LimitNOFILE=" in line
    service.configure(limits={"connections": 200})
    before = len(service.lines)
    assert service.reload().returncode == 0
    assert not any("limits.connections is" in each for each in service.lines[before:])


def test_a_death_is_handled_by_a_master_without_descriptors(make_service: MakeService) -> None:
    service = make_service().start()
    victim = service.workers()[0]["pid"]
    followed = socket.socket(socket.AF_UNIX)
    with followed:
        followed.settimeout(PATIENCE_SECONDS)
        followed.connect(str(service.control))
        followed.sendall(b'{"version": 1, "command": "events", "follow": true}\n')
        lines = followed.makefile("rb")
        next(line for line in lines if b'"ready"' in line)
        before = resource.prlimit(service.pid, resource.RLIMIT_NOFILE)
        # Not even one that is closed meanwhile: 0 to 2 are open.
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (3, before[1]))
        os.kill(victim, signal.SIGKILL)
        gone = next(line for line in lines if b'"exit"' in line)
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, before)
    assert json.loads(gone)["event"]["pid"] == victim
    wait_until(lambda: len(service.workers()) == 2, "its successor serves")
    service.wait_for_status(r"^Serving: 2 workers")
    assert service.stop() == 0

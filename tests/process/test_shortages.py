"""The system gives no more of something: what cannot be done is said, and what is known stays true."""

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

from tests.support.service import Service, wait_until

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
    taken = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
    lowest_free = min(set(range(len(taken) + 1)) - taken)
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free, hard))
    assert service.reload().returncode == 0
    service.wait_for_line(f"worker ended: exit status 0 .*pid={pid} reason=rollout")
    service.wait_for_line(f"there are no descriptors left for connections: raise LimitNOFILE= .*pid={pid}")
    assert "the master is gone" not in service.log()


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

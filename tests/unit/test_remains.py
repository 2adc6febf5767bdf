"""What dead workers have left behind ends, also if the master that has buried them dies."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from clusterd.log import Logger
from clusterd.master.children.child import Child, Kind
from clusterd.master.children.remains import Remains
from clusterd.master.children.table import Children
from tests.unit.test_handling import Lines

pytestmark = pytest.mark.engine_independent


@pytest.fixture
def left() -> Iterator["subprocess.Popen[bytes]"]:
    """A process in the process group of a worker, by which alone it is known: that worker's pid is its own."""
    command = "import signal; print('runs', flush=True); signal.pause()"
    process = subprocess.Popen([sys.executable, "-c", command], process_group=0, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def remains(loop: asyncio.AbstractEventLoop, *living: int) -> Remains:
    """Those of a master with these workers."""
    children = Children(loop, lambda *_: None, lambda _: None, lambda _: None)
    for pid in living:
        children.adopt(Child(pid, Kind.WORKER, generation=1), pid, None, drain_seconds=3600.0)
    processes: Any = SimpleNamespace(first_master=-1)
    return Remains(children, processes, Logger(Lines()))


def test_the_next_master_knows_whose_it_is(left: "subprocess.Popen[bytes]", loop: asyncio.AbstractEventLoop) -> None:
    first, second = remains(loop), remains(loop)
    first.worker_gone(left.pid, until=0.0)
    second.look(time.monotonic())
    assert left.poll() is None
    second.resume(first.kept())
    second.look(time.monotonic())
    assert left.wait() == -signal.SIGTERM


def test_nothing_of_a_living_worker_ends_that_has_got_the_pid(
    left: "subprocess.Popen[bytes]", loop: asyncio.AbstractEventLoop
) -> None:
    first, second = remains(loop), remains(loop, left.pid)
    first.worker_gone(left.pid, until=0.0)
    second.resume(first.kept())
    assert second.kept() == {}
    second.look(time.monotonic())
    assert left.poll() is None

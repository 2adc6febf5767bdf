"""Processes that are not children of the master: their ends are seen, also where descriptors or pids run out."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from clusterd.master.children import adopted
from clusterd.master.children.adopted import Adopted
from clusterd.master.children.child import Child, Kind
from clusterd.metrics.kernel.procfs import identity

pytestmark = pytest.mark.engine_independent

Ended = tuple[int, int | None, float | None]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    yield process
    process.kill()
    process.wait()


def child_of(process: subprocess.Popen[bytes], *, by_template: bool = False) -> Child:
    found = identity(process.pid)
    assert found is not None
    return Child(7, Kind.WORKER, 1, pid=process.pid, started=found.started, is_reaped_by_template=by_template)


async def first_end(child: Child, act: "list[object]") -> Ended:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Ended] = loop.create_future()
    watch = Adopted(loop, lambda who, status, cpu: ended.set_result((who.serial, status, cpu)))
    watch.watch(child)
    for each in act:
        if callable(each):
            each(watch)
    return await asyncio.wait_for(ended, 30)


def test_an_end_is_seen_without_a_status(sleeper: subprocess.Popen[bytes]) -> None:
    child = child_of(sleeper)
    assert asyncio.run(first_end(child, [lambda watch: watch.signal(child, signal.SIGTERM)])) == (7, None, None)


def test_a_report_of_the_template_tells_the_status(sleeper: subprocess.Popen[bytes]) -> None:
    child = child_of(sleeper, by_template=True)
    assert asyncio.run(first_end(child, [lambda watch: watch.reported(child, 11, 2.5)])) == (7, 11, 2.5)


def test_without_a_report_the_end_is_known_after_a_while(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adopted, "REPORT_SECONDS", 0.01)
    child = child_of(sleeper, by_template=True)
    assert asyncio.run(first_end(child, [lambda _: sleeper.kill()])) == (7, None, None)


def test_another_process_with_the_same_pid_is_neither_waited_for_nor_signalled(
    sleeper: subprocess.Popen[bytes],
) -> None:
    child = child_of(sleeper)
    child.started -= 1
    assert asyncio.run(first_end(child, [lambda watch: watch.signal(child, signal.SIGKILL)])) == (7, None, None)
    assert sleeper.poll() is None


def test_without_descriptors_it_is_looked_at_again(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adopted, "RETRY_SECONDS", 0.01)
    open_it, refusals = os.pidfd_open, iter([True, True, False])

    def refuse_twice(pid: int, flags: int = 0) -> int:
        if next(refusals, False):
            raise OSError(errno.EMFILE, "Too many open files")
        return open_it(pid, flags)

    monkeypatch.setattr(os, "pidfd_open", refuse_twice)
    child = child_of(sleeper)
    assert asyncio.run(first_end(child, [lambda watch: watch.signal(child, signal.SIGKILL)])) == (7, None, None)
    assert next(refusals, None) is None

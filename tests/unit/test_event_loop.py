"""The loop of a worker can be run as long as the process lives."""

import asyncio
import os
import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from clusterd.runtime import event_loop


@contextmanager
def limited(descriptors: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """All that the limit allows are open."""
    with limited(max(map(int, os.listdir("/proc/self/fd"))) + 1), ExitStack() as taken:
        while True:
            try:
                taken.enter_context(open("/dev/null"))
            except OSError:
                break
        yield


@pytest.mark.parametrize("is_observed", [False, True])
def test_it_is_run_again_without_descriptors(is_observed: bool) -> None:
    """uvloop makes a pair of sockets each time."""
    loop = event_loop.new_event_loop(is_observed=is_observed)
    with no_descriptors_left():
        for _ in range(3):
            loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_it_waits_for_descriptors_that_others_have_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = event_loop.new_event_loop()
    waits: list[float] = []
    with ExitStack() as shortage:

        async def others_take_them() -> None:
            shortage.enter_context(limited(3))

        def wait(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                shortage.close()

        monkeypatch.setattr(event_loop, "sleep", wait)
        loop.run_until_complete(others_take_them())
        loop.run_until_complete(asyncio.sleep(0))
    assert len(waits) == 3
    loop.close()


def test_what_it_keeps_goes_with_it() -> None:
    before = set(os.listdir("/proc/self/fd"))
    loop = event_loop.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.fixture(autouse=True)
def _no_current_loop() -> Iterator[None]:
    yield
    asyncio.set_event_loop(None)

"""The application's metrics in processes that are forked at any moment."""

import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from clusterd.metrics.application.here import Here
from clusterd.metrics.application.registries import Registries
from clusterd.metrics.application.values import Value, value_class
from clusterd.metrics.regions.arena import Arena
from clusterd.metrics.regions.merging import Merged
from clusterd.metrics.regions.reading import ArenaReader

pytestmark = pytest.mark.engine_independent


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena.create()
    yield made
    made.close()


def count(make: Callable[..., Value], amount: float = 1, **labels: str) -> None:
    make("counter", "orders", "orders_total", tuple(labels), tuple(labels.values()), "Help.").inc(amount)


def values(arena: Arena) -> dict[str, float]:
    """Those of all workers."""
    merged = Merged(process.contribution for process in ArenaReader(arena).read().processes)
    return {f"{each.sample}{dict(each.labels) or ''}": value for each, value in merged.values.items()}


def in_child(call: Callable[[], object]) -> int:
    """The exit status of a child that this process forks, and that calls it."""
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # It may wait for a lock that nobody releases.
        try:
            call()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_child_that_the_application_forks_before_its_first_metric_writes_into_no_region(arena: Arena) -> None:
    here = Here(arena, 1000)
    arena.lease(0, 1, 1)
    here.enter(0)
    assert in_child(lambda: count(value_class(here.memory))) == 0
    assert values(arena) == {}
    count(value_class(here.memory))
    assert values(arena) == {"orders_total": 1}


def test_a_fork_while_another_thread_makes_a_series_leaves_no_half_of_it(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Here(arena, 1000)
    make = value_class(here.memory)
    count(make, kind="a")
    arena.lease(0, 1, 1)

    def work() -> None:
        here.enter(0)
        count(make, kind="b", amount=5)

    statuses: list[int] = []
    calls = [work]
    keys: memoryview = vars(here.memory)["_keys"]

    class ForkingKeys:
        """The keys, where a fork comes before the next is written: the thread holds the lock, and has reserved it."""

        def __getitem__(self, where: slice) -> memoryview:
            return keys[where]

        def __setitem__(self, where: slice, record: bytes) -> None:
            if calls:
                statuses.append(in_child(calls.pop()))
            keys[where] = record

    monkeypatch.setattr(here.memory, "_keys", ForkingKeys())
    thread = threading.Thread(target=count, args=(make,), kwargs={"kind": "half"})
    thread.start()
    thread.join()
    assert statuses == [0]
    assert values(arena) == {"orders_total{'kind': 'a'}": 0, "orders_total{'kind': 'b'}": 5}


def test_a_fork_while_another_thread_makes_a_registry_leaves_no_lock_held() -> None:
    registries = Registries()
    statuses: list[int] = []

    class Registry:
        """Is put into a set while the lock is held."""

        def __hash__(self) -> int:
            if not statuses:
                statuses.append(in_child(lambda: registries.note(Other())))
            return 1

    class Other:
        """Another one."""

    registries.note(Registry())
    assert statuses == [0]

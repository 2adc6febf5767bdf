"""Which worker's memory is measured when: the measurement is expensive, so there is one at a time."""

import os
from collections.abc import Callable, Collection
from functools import partial
from queue import SimpleQueue
from types import SimpleNamespace

import pytest

from clusterd.master.observing.memory import LIMITED_SAMPLE_SECONDS, SAMPLE_SECONDS, MemorySampler, sampler_beside
from clusterd.metrics.kernel.procfs import ProcessMemory
from clusterd.metrics.page.observed import SlotMemory

pytestmark = pytest.mark.engine_independent


class World:
    """Processes whose memory is ten times their pid, and the order in which they were measured."""

    def __init__(self) -> None:
        self.read: list[int] = []
        self.gone: set[int] = set()
        self.is_slow = False
        self.unanswered: list[Callable[[], None]] = []
        self.sampler = MemorySampler(self.measure)

    def measure(self, pid: int, then: Callable[[ProcessMemory | None], None]) -> None:
        self.read.append(pid)
        answer = partial(then, None if pid in self.gone else ProcessMemory(pid * 10, pid))
        self.unanswered.append(answer)
        if not self.is_slow:
            answer()

    def look(self, pids: list[int], now: float, limited: Collection[int] = ()) -> list[int]:
        """Which processes were measured in this look."""
        before = len(self.read)
        periods = {pid: LIMITED_SAMPLE_SECONDS if pid in limited else SAMPLE_SECONDS for pid in pids}
        self.sampler.look(periods, now)
        return self.read[before:]


def test_one_worker_a_look_and_each_at_most_every_half_minute() -> None:
    world = World()
    assert [world.look([1, 2, 3], 100.0 + second) for second in range(4)] == [[1], [2], [3], []]
    assert world.look([1, 2, 3], 100.0 + SAMPLE_SECONDS) == [1]
    assert world.look([1, 2, 3], 100.5 + SAMPLE_SECONDS) == []
    # A new worker is next, however long the others have waited.
    assert world.look([1, 2, 3, 4], 500.0) == [4]
    assert world.look([1, 2, 3, 4], 500.0) == [2]


def test_a_process_that_cannot_be_read_is_not_tried_again_at_once() -> None:
    world = World()
    world.gone = {1}
    assert [world.look([1], 100.0), world.look([1], 101.0)] == [[1], []]
    assert world.sampler.by_slot({1: 1}, 101.0) == {}


def test_a_slot_is_the_sum_of_its_processes_and_as_old_as_the_oldest_sample() -> None:
    world = World()
    for now in (100.0, 104.0):
        world.look([1, 2], now)
    assert world.sampler.by_slot({1: 7, 2: 7, 3: 8}, 110.0) == {7: SlotMemory(30, 3, 10.0)}


def test_a_pid_that_was_gone_is_another_process() -> None:
    world = World()
    world.look([1], 100.0)
    world.look([], 101.0)
    assert world.look([1], 102.0) == [1]


def test_without_workers_nothing_is_measured() -> None:
    assert World().look([], 100.0) == []


def test_a_worker_with_a_limit_is_measured_more_often() -> None:
    world = World()
    assert [world.look([1, 2], 100.0, [2]) for _ in range(2)] == [[1], [2]]
    assert world.look([1, 2], 100.0 + LIMITED_SAMPLE_SECONDS, [2]) == [2]
    assert world.look([1, 2], 100.0 + SAMPLE_SECONDS, [2]) == [2]
    assert world.look([1, 2], 100.0 + SAMPLE_SECONDS, [2]) == [1]


def test_while_one_is_measured_no_other_is() -> None:
    world = World()
    world.is_slow = True
    assert [world.look([1, 2], 100.0), world.look([1, 2], 101.0)] == [[1], []]
    assert world.sampler.private_bytes(1) is None
    world.unanswered[0]()
    assert world.sampler.private_bytes(1) == 1
    assert world.look([1, 2], 102.0) == [2]


def test_a_process_that_ends_while_it_is_measured_holds_up_no_other() -> None:
    world = World()
    world.is_slow = True
    assert [world.look([1], 100.0), world.look([2], 101.0)] == [[1], [2]]
    world.unanswered[0]()
    assert world.look([2], 102.0) == []
    assert world.sampler.private_bytes(1) is None


def test_a_process_is_read_beside_the_loop() -> None:
    calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
    loop = SimpleNamespace(call_soon_threadsafe=lambda then, memory: calls.put(partial(then, memory)))
    sampler = sampler_beside(loop)  # type: ignore[arg-type]
    sampler.look({os.getpid(): SAMPLE_SECONDS}, 100.0)
    answer = calls.get()
    assert sampler.private_bytes(os.getpid()) is None
    answer()
    assert (sampler.private_bytes(os.getpid()) or 0) > 0

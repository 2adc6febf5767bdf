"""How many workers a range should have: pure decisions about loads that are made up."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterd.supervisor.elastic import MOST_GROWTH, UNSEEN, Decision, Situation, Trend, decide
from clusterd.supervisor.model.load import Load, ScaleCause, WorkerLoad, load_of

pytestmark = pytest.mark.engine_independent

EVERY = 0.1
FREE = WorkerLoad(busy=0.0, jobs=0, threads=4, connections=10, connections_limit=1000)


@dataclass
class Range:
    """A range that is looked at ten times a second. Its workers are ready at once."""

    least: int = 1
    most: int = 8
    wanted: int = 1
    shrink_after: float = 30.0
    may_shrink: bool = True
    now: float = 100.0
    trend: Trend = UNSEEN
    decisions: list[Decision] = field(default_factory=list)

    def look(self, load: Load) -> Decision | None:
        self.now += EVERY
        situation = Situation(self.least, self.most, self.wanted, self.shrink_after, self.may_shrink)
        self.trend, decision = decide(self.trend, load, situation, self.now)
        if decision is not None:
            assert decision.workers != self.wanted
            self.wanted = decision.workers
            self.decisions.append(decision)
        return decision

    def look_for(self, seconds: float, load: Callable[[int], Load]) -> list[int]:
        """The numbers that were decided on while `load` gave what so many workers do."""
        before = len(self.decisions)
        for _ in range(round(seconds / EVERY)):
            self.look(load(self.wanted))
        return [decision.workers for decision in self.decisions[before:]]


def calls(jobs: int, threads: int = 4) -> Callable[[int], Load]:
    """As many calls of the application at every moment, spread over workers with threads."""

    def load(workers: int) -> Load:
        each = [jobs // workers + (number < jobs % workers) for number in range(workers)]
        return load_of([replace(FREE, jobs=count, threads=threads) for count in each], 0)

    return load


def looping(work: float) -> Callable[[int], Load]:
    """Work for event loops: so many of them would have nothing else to do. What they cannot do waits unseen."""
    return lambda workers: load_of([replace(FREE, threads=0, busy=min(1.0, work / workers))] * workers, 0)


def test_a_queue_finds_the_maximum_within_a_second() -> None:
    elastic = Range()
    assert elastic.look_for(1.0, calls(64)) == [2, 4, 8]
    assert (elastic.decisions[0].cause, elastic.decisions[0].reason) == (
        ScaleCause.QUEUE,
        "60 requests wait for a thread",
    )


def test_busy_loops_find_it_within_two() -> None:
    elastic = Range()
    assert elastic.look_for(2.0, looping(16))[-1] == 8
    assert elastic.decisions[0].cause is ScaleCause.LOOP
    assert elastic.decisions[0].reason == "the workers are busy 100 % of the time"


@pytest.mark.parametrize(
    ("load", "cause", "reason"),
    [
        (load_of([FREE], 3), ScaleCause.BACKLOG, "3 connections wait to be accepted"),
        (load_of([replace(FREE, jobs=5)], 0), ScaleCause.QUEUE, "1 request waits for a thread"),
        (load_of([replace(FREE, jobs=4)], 0), ScaleCause.THREADS, "4 of 4 threads are busy"),
        (load_of([replace(FREE, connections=900)], 0), ScaleCause.CONNECTIONS, "900 of 1000 connections are open"),
        (load_of([replace(FREE, busy=0.85)], 0), ScaleCause.LOOP, "the workers are busy 85 % of the time"),
    ],
)
def test_the_cause_is_named_with_its_numbers(load: Load, cause: ScaleCause, reason: str) -> None:
    assert (load.cause, load.words()) == (cause, reason)


def test_each_of_them_asks_for_more() -> None:
    for worker, backlog in (
        (FREE, 4),
        (replace(FREE, jobs=5), 0),
        (replace(FREE, jobs=4), 0),
        (replace(FREE, connections=900), 0),
        (replace(FREE, busy=0.85), 0),
    ):
        load = load_of([worker] * 2, 2 * backlog)
        elastic = Range(wanted=2)
        for _ in range(30):
            elastic.look(load)
        assert elastic.wanted > 2, worker


def test_a_single_moment_asks_for_nothing() -> None:
    elastic = Range()
    for _ in range(20):
        elastic.look_for(0.5, calls(0))
        elastic.look(calls(1000)(elastic.wanted))
    assert not elastic.decisions


def test_idle_workers_go_down_to_the_minimum_by_halves_each_after_the_pause() -> None:
    elastic = Range(least=2, most=16, wanted=16, shrink_after=30.0)
    assert elastic.look_for(29.0, calls(0)) == []
    assert elastic.look_for(2.0, calls(0)) == [8]
    assert elastic.look_for(28.0, calls(0)) == []
    assert elastic.look_for(200.0, calls(0)) == [4, 2]
    assert elastic.decisions[0] == Decision(8, ScaleCause.IDLE, "for 30 s at most 1 % of them was used")


def test_one_busy_moment_in_the_pause_keeps_what_it_needed() -> None:
    elastic = Range(wanted=8, shrink_after=10.0)
    elastic.look_for(5.0, calls(0))
    elastic.look_for(5.0, calls(15))
    assert elastic.look_for(5.5, calls(0)) == [7]


def test_nothing_goes_while_it_must_not_and_the_pause_begins_anew_afterwards() -> None:
    elastic = Range(wanted=8, shrink_after=10.0, may_shrink=False)
    assert elastic.look_for(60.0, calls(0)) == []
    elastic.may_shrink = True
    assert elastic.look_for(9.0, calls(0)) == []
    assert elastic.look_for(2.0, calls(0)) == [4]


def test_more_may_come_while_nothing_may_go() -> None:
    elastic = Range(may_shrink=False)
    assert elastic.look_for(1.0, calls(64)) == [2, 4, 8]


def test_without_a_ready_worker_nothing_is_decided_and_all_is_forgotten() -> None:
    elastic = Range(wanted=4)
    elastic.look_for(1.0, calls(2))
    assert elastic.look(load_of([], 50)) is None
    assert elastic.trend == UNSEEN


LOADS = st.builds(
    lambda workers, busy, jobs, threads, backlog: load_of([WorkerLoad(busy, jobs, threads, 2, 9)] * workers, backlog),
    st.integers(0, 20),
    st.floats(0.0, 1.0),
    st.integers(0, 200),
    st.integers(0, 8),
    st.integers(0, 4096),
)


@given(st.integers(1, 8), st.integers(0, 30), st.lists(st.tuples(LOADS, st.booleans()), max_size=60))
def test_whatever_the_load_the_range_is_kept(least: int, more: int, looks: list[tuple[Load, bool]]) -> None:
    elastic = Range(least=least, most=least + more, wanted=least, shrink_after=1.0)
    for load, elastic.may_shrink in looks:
        before = elastic.wanted
        decision = elastic.look(load)
        assert least <= elastic.wanted <= least + more
        assert elastic.wanted <= before * MOST_GROWTH
        assert elastic.wanted >= before / 2
        assert elastic.wanted >= before or elastic.may_shrink
        assert decision is None or (decision.cause is ScaleCause.IDLE) == (decision.workers < before)


CONSTANT = st.one_of(
    st.integers(0, 200).map(calls),
    st.floats(0.0, 20.0).map(looping),
)


@settings(max_examples=40)
@given(CONSTANT, st.integers(1, 4), st.integers(0, 16), st.integers(0, 16))
def test_a_constant_load_is_answered_once(load: Callable[[int], Load], least: int, more: int, at_first: int) -> None:
    """The number goes up, or down, or up and then down: never up again."""
    elastic = Range(least, least + more, min(least + at_first, least + more), shrink_after=1.0)
    changes = elastic.look_for(60.0, load)
    lowered = [decision.cause is ScaleCause.IDLE for decision in elastic.decisions]
    assert lowered == sorted(lowered)
    assert elastic.look_for(60.0, load) == [], changes


def test_one_client_that_keeps_a_loop_busy_needs_no_third_worker() -> None:
    elastic = Range()
    busy = replace(FREE, threads=0, busy=1.0, connections=1)
    idle = replace(FREE, threads=0, connections=0)
    assert elastic.look_for(60.0, lambda workers: load_of([busy, *[idle] * (workers - 1)], 0)) == [2]


def test_a_busy_loop_with_many_clients_is_relieved_before_they_are_evened_out() -> None:
    elastic = Range()
    busy, idle = replace(FREE, threads=0, busy=1.0), replace(FREE, threads=0)
    assert elastic.look_for(60.0, lambda workers: load_of([busy, *[idle] * (workers - 1)], 0)) == [2, 3]
    late = replace(busy, is_late=True)
    elastic.look_for(60.0, lambda workers: load_of([late, *[idle] * (workers - 1)], 0))
    assert elastic.wanted == 6


def test_a_loop_that_one_client_blocks_needs_no_third_worker() -> None:
    elastic = Range()
    late = replace(FREE, threads=0, busy=1.0, connections=1, is_late=True)
    idle = replace(FREE, threads=0, connections=0)
    assert elastic.look_for(60.0, lambda workers: load_of([late, *[idle] * (workers - 1)], 0)) == [2]


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_a_load_that_varies_around_its_mean_is_not_followed(seed: int, jobs: int) -> None:
    """A fifth more and less than the mean, from look to look."""
    elastic = Range(1, 32, wanted=1, shrink_after=5.0)
    number = iter(range(10**9))

    def load(workers: int) -> Load:
        wave = 1 + 0.2 * math.sin(seed + 7 * next(number))
        return calls(max(0, round(jobs * wave)))(workers)

    elastic.look_for(30.0, load)
    assert len(elastic.look_for(90.0, load)) <= 1
    lowered = [decision.cause is ScaleCause.IDLE for decision in elastic.decisions]
    assert lowered == sorted(lowered)


def test_ten_thousand_workers_are_found_by_doubling_and_given_back_by_halves() -> None:
    elastic = Range(1, 10_000, shrink_after=1.0)
    up = elastic.look_for(5.0, lambda workers: load_of([replace(FREE, jobs=64)] * workers, 100))
    assert up == [min(2**power, 10_000) for power in range(1, 15)]
    down = elastic.look_for(40.0, lambda workers: load_of([FREE] * workers, 0))
    assert down[-1] == 1
    assert all(before > after >= before / 2 for before, after in pairwise([10_000, *down]))

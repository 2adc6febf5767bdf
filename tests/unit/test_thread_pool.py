"""The pool of threads where the system gives no more of them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from clusterd.http.wsgi.mailbox import Mailbox
from clusterd.http.wsgi.pool.thread_pool import ThreadPool
from clusterd.http.wsgi.runner import Runner
from tests.support.counting import CountsNothing


class Recorded:
    """A job that says when it ran, and waits to be let go."""

    def __init__(self) -> None:
        self.queued_at = 0.0
        self.running = threading.Event()
        self.end = threading.Event()

    def run(self, thread: Runner, _: float) -> None:
        self.running.set()
        assert self.end.wait(10)


class Loop:
    """Makes calls at once; those of `call_soon` by `later`, if it is given."""

    def __init__(self, later: Callable[[Callable[[], None]], object] = lambda call: call()) -> None:
        self.call_soon = later

    def call_soon_threadsafe(self, call: Callable[[], None]) -> None:
        call()


def pool_of(
    count: int,
    queue_limit: int,
    loop: Loop | None = None,
    on_saturation: Callable[[ThreadPool], None] = lambda _: None,
) -> ThreadPool:
    """A pool on a loop that nobody runs."""
    runs: Any = loop or Loop()
    pool = ThreadPool(count, queue_limit, runs, Mailbox(runs), lambda: on_saturation(pool), CountsNothing())
    return pool


@contextmanager
def threads_refused(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        yield


def test_the_threads_that_run_have_to_do_when_the_system_gives_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(2, queue_limit=1)
    first, second, third = Recorded(), Recorded(), Recorded()
    assert pool.submit(first)
    assert first.running.wait(10)
    with threads_refused(monkeypatch):
        assert pool.submit(second)
        assert pool.waiting == 1
        assert not pool.submit(third)
    first.end.set()
    assert second.running.wait(10)
    second.end.set()
    assert pool.stop(10)


def test_without_any_thread_a_job_is_turned_down(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(2, queue_limit=1)
    with threads_refused(monkeypatch):
        assert not pool.submit(Recorded())
    assert pool.waiting == 0


def test_every_job_runs_at_once_while_there_are_threads_however_long_the_others_take() -> None:
    calls: list[Callable[[], None]] = []
    saturations: list[int] = []
    pool = pool_of(4, 100, Loop(calls.append), lambda pool: saturations.append(pool.free))
    jobs = [Recorded() for _ in range(4)]
    assert all(pool.submit(job) for job in jobs)
    assert len(calls) == 1, "one wake-up serves all jobs of a round"
    assert (pool.free, pool.waiting, saturations) == (0, 0, [0])
    calls.pop()()
    assert all(job.running.wait(10) for job in jobs)
    waits = Recorded()
    assert pool.submit(waits)
    calls.pop()()
    assert (pool.busy, pool.waiting) == (4, 1)
    jobs[2].end.set()
    assert waits.running.wait(10)
    pool.over()
    assert (pool.busy, pool.waiting, saturations) == (4, 0, [0])
    pool.over()
    assert (pool.busy, pool.free, saturations) == (3, 1, [0, 1])
    for job in (*jobs, waits):
        job.end.set()
    assert pool.stop(10)


def test_no_queue_means_that_a_job_runs_at_once_or_not_at_all() -> None:
    pool = pool_of(1, queue_limit=0)
    first = Recorded()
    assert pool.submit(first)
    assert first.running.wait(10)
    assert not pool.submit(Recorded())
    first.end.set()
    assert pool.stop(10)


class Counted:
    """A job that counts, and says when all are through."""

    def __init__(self, left: list[int], over: threading.Event) -> None:
        self.queued_at = 0.0
        self._left, self._over = left, over

    def run(self, thread: Runner, _: float) -> None:
        self._left.pop()
        if not self._left:
            self._over.set()


@pytest.mark.parametrize("count", [1, 2, 8])
def test_no_job_is_forgotten_whoever_parks_when(count: int) -> None:
    """Submitted one by one as fast as they are done, so that threads park and are woken at every moment."""
    pool = pool_of(count, queue_limit=10**6)
    for size in [1, 2, 3] * 2000:
        left, over = [0] * size, threading.Event()
        for _ in range(size):
            assert pool.submit(Counted(left, over))
        assert over.wait(10), f"{len(left)} jobs were left lying"
        for _ in range(size):
            pool.over()
    assert pool.stop(10)


def test_jobs_that_waited_too_long_come_back_and_do_not_run() -> None:
    pool = pool_of(1, queue_limit=10)
    first, late = Recorded(), Recorded()
    assert pool.submit(first)
    assert first.running.wait(10)
    assert pool.submit(late)
    assert pool.withdraw_older(late.queued_at) == []
    assert pool.withdraw_older(late.queued_at + 1) == [late]
    assert not pool.withdraw(late)
    first.end.set()
    assert pool.stop(10)
    assert not late.running.is_set()

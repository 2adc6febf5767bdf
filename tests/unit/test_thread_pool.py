"""The pool of threads where the system gives no more of them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from clusterd.http.threads import PoolThread, ThreadPool


class Recorded:
    """A job that says when it ran, and waits to be let go."""

    def __init__(self) -> None:
        self.queued_at = 0.0
        self.running = threading.Event()
        self.end = threading.Event()

    def run(self, thread: PoolThread) -> None:
        self.running.set()
        assert self.end.wait(10)


@contextmanager
def threads_refused(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(PoolThread, "start", refuse)
        yield


def test_the_threads_that_run_have_to_do_when_the_system_gives_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ThreadPool(2, queue_limit=1)
    first, second, third = Recorded(), Recorded(), Recorded()
    assert pool.submit(first)
    with threads_refused(monkeypatch):
        assert pool.submit(second)
        assert pool.waiting == 1
        assert not pool.submit(third)
    first.end.set()
    assert second.running.wait(10)
    second.end.set()
    assert pool.stop(10)


def test_without_any_thread_a_job_is_turned_down(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ThreadPool(2, queue_limit=1)
    with threads_refused(monkeypatch):
        assert not pool.submit(Recorded())
    assert pool.waiting == 0

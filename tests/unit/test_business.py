"""How busy a worker says it is."""

import time

import pytest

from clusterd.metrics.shared.row import BUSY_UNIT
from clusterd.runtime import originals
from clusterd.worker.diagnosis import business
from clusterd.worker.diagnosis.business import Business

pytestmark = pytest.mark.engine_independent


def compute(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def test_a_thread_that_only_works_is_busy_whether_or_not_it_has_a_cpu() -> None:
    measured = Business()
    compute(0.1)
    assert 0.9 * BUSY_UNIT < measured.tick() <= BUSY_UNIT


def test_over_a_moment_the_last_measure_is_kept() -> None:
    measured = Business()
    compute(0.1)
    assert measured.tick() == measured.tick()


def test_where_the_kernel_does_not_tell_the_cpu_time_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(business, "_SCHEDSTAT", "/nowhere/schedstat")
    measured, before = Business(), time.process_time()
    while time.process_time() - before < 0.1:
        pass
    assert 0 < measured.tick() <= BUSY_UNIT


def test_what_another_thread_has_waited_for_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = Business()
    monkeypatch.setattr(originals, "get_ident", lambda: 1)
    monkeypatch.setattr(business, "_runnable_ns", lambda: 10**18)
    monkeypatch.setattr(time, "process_time_ns", lambda: 0)
    compute(0.06)
    assert measured.tick() == 0

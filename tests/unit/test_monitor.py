"""What a look at a worker means."""

from dataclasses import dataclass

from clusterd.master.health.monitor import Monitor, Watched
from clusterd.master.health.punctuality import LATE_SECONDS, LOOK_EVERY_SECONDS
from clusterd.supervisor.events import Event, MemoryLimitReached, RequestLimitReached, WorkerStalled
from tests.support.settings import limits, timeouts


@dataclass
class FakeRow:
    heartbeat: int
    progress: int
    requests: int = 0


LIMITS = limits(max_requests=100, max_memory=1000)

TIMEOUTS = timeouts(hang=10.0)


def looked_at(row: FakeRow, times: list[float], memory: int | None = 0, began: float = 0.0) -> list[Event]:
    happened: list[Event] = []
    monitor = Monitor(happened.append, memory=lambda pid: memory, began=began)
    for now in times:
        watched = Watched(1, 1, 42, row, is_debugged=False, timeouts=TIMEOUTS, limits=LIMITS)  # type: ignore[arg-type]
        monitor.look([watched], now)
    return happened


def at(seconds: float) -> int:
    return int(seconds * 1e9)


def test_a_worker_is_stalled_when_its_loop_or_its_threads_are() -> None:
    assert looked_at(FakeRow(at(100), at(100)), [104.9]) == []
    [stalled] = looked_at(FakeRow(at(100), at(105)), [105.0])
    assert stalled == WorkerStalled(1, 5.0, "its event loop has not turned")
    [stalled] = looked_at(FakeRow(at(112), at(100)), [112.0])
    assert stalled == WorkerStalled(1, 12.0, "none of its threads has made progress")


def test_time_in_which_the_master_did_not_run_is_nobody_elses() -> None:
    late = 100.0 + LOOK_EVERY_SECONDS + LATE_SECONDS + 20
    assert looked_at(FakeRow(at(100), at(100)), [100.0, late]) == []
    assert looked_at(FakeRow(at(100), at(100)), [100.0, late, late + 0.25]) == []


def test_time_before_this_master_is_nobody_elses() -> None:
    assert looked_at(FakeRow(at(100), at(100)), [200.0], began=200.0) == []
    [stalled] = looked_at(FakeRow(at(100), at(100)), [205.0], began=200.0)
    assert stalled == WorkerStalled(1, 5.0, "its event loop has not turned")


def test_limits_are_reported_with_jitter() -> None:
    assert looked_at(FakeRow(at(100), at(100), requests=99), [100.0]) == []
    assert looked_at(FakeRow(at(100), at(100), requests=110), [100.0]) == [RequestLimitReached(1)]


def test_a_limit_of_memory_is_reported_for_as_long_as_it_is_exceeded() -> None:
    for memory, reported in ((2000, [MemoryLimitReached(1, 2000, 1000)]), (1000, []), (None, [])):
        assert looked_at(FakeRow(at(100), at(100)), [100.0], memory=memory) == reported
    assert len(looked_at(FakeRow(at(100), at(100)), [100.0, 100.25], memory=2000)) == 2

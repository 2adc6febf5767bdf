"""When a host is said to answer nothing: not for a burst, a few slow queries, or a master that was late itself."""

import dataclasses
from collections.abc import Callable, Sequence

import pytest

from clusterd.master.health.punctuality import LOOK_EVERY_SECONDS
from clusterd.master.health.readiness import SILENT_SECONDS, NotReady, Readiness, Seen

START = 100.0
UNREADY = 10.0

AT_EASE = Seen(
    serial=1,
    slot=1,
    heartbeat=START,
    progress=START,
    waiting=0,
    is_full=False,
    is_debugged=False,
    unready=UNREADY,
)

Behaviour = Callable[[float], Seen]


def well(now: float) -> Seen:
    return dataclasses.replace(AT_EASE, heartbeat=now, progress=now)


def silent(now: float) -> Seen:
    return AT_EASE


def slow(now: float) -> Seen:
    """All its threads are in slow queries, and nobody waits for one."""
    return dataclasses.replace(AT_EASE, heartbeat=now)


def stuck(now: float) -> Seen:
    return dataclasses.replace(AT_EASE, heartbeat=now, waiting=3)


def full(now: float) -> Seen:
    return dataclasses.replace(AT_EASE, heartbeat=now, progress=now, waiting=100, is_full=True)


def busy(now: float) -> Seen:
    """Requests wait, and are answered one after the other."""
    return dataclasses.replace(AT_EASE, heartbeat=now, progress=now, waiting=99)


def debugged(now: float) -> Seen:
    return dataclasses.replace(AT_EASE, is_debugged=True)


def looked_at(workers: Sequence[Behaviour], seconds: float, readiness: Readiness | None = None) -> NotReady | None:
    """What is found after so many seconds of looks in time."""
    readiness = readiness or Readiness()
    found = None
    for number in range(int(seconds / LOOK_EVERY_SECONDS) + 1):
        now = START + number * LOOK_EVERY_SECONDS
        seen = [dataclasses.replace(be(now), serial=slot, slot=slot) for slot, be in enumerate(workers, 1)]
        found = readiness.look(seen, now)
    return found


@pytest.mark.parametrize(
    ("workers", "after", "why"),
    [
        ([silent, silent], SILENT_SECONDS, "no worker's event loop turns"),
        ([stuck, stuck], UNREADY, "every thread of every worker is stuck while requests wait"),
        ([stuck, slow], UNREADY, "every thread of every worker is stuck while requests wait"),
        ([full, full], UNREADY, "the queue of every worker is full"),
        ([silent, full], UNREADY, "the event loop of worker 1 does not turn, the queue of worker 2 is full"),
        (
            [stuck, silent, stuck],
            UNREADY,
            "the event loop of worker 2 does not turn, every thread of workers 1, 3 is stuck",
        ),
        ([debugged], SILENT_SECONDS, "no worker's event loop turns (worker 1 may stand at a breakpoint)"),
    ],
)
def test_nothing_is_answered(workers: Sequence[Behaviour], after: float, why: str) -> None:
    assert looked_at(workers, after - LOOK_EVERY_SECONDS) is None
    assert looked_at(workers, after) == NotReady(why, START)
    assert looked_at(workers, after + 60) == NotReady(why, START)


@pytest.mark.parametrize(
    "workers",
    [
        [],
        [well],
        [silent, well],
        [debugged, well],
        [slow, slow],
        [silent, slow],
        [busy],
        [full, busy],
        [stuck, busy],
    ],
)
def test_something_is_answered_however_long_that_lasts(workers: Sequence[Behaviour]) -> None:
    assert looked_at(workers, 10 * UNREADY) is None


def checked(workers: Sequence[Behaviour]) -> list[tuple[str, bool, str]]:
    readiness = Readiness()
    looked_at(workers, UNREADY, readiness)
    return [dataclasses.astuple(check) for check in readiness.checks()]


def test_each_check_says_what_it_has_found() -> None:
    fine = [
        ("event loops", True, "all turn"),
        ("threads", True, "all make progress, or nothing waits"),
        ("queues", True, "all have room"),
    ]
    assert checked([well, well]) == fine
    assert checked([well, silent, full]) == [
        ("event loops", True, "the event loop of worker 2 does not turn; other workers answer"),
        fine[1],
        ("queues", True, "the queue of worker 3 is full; other workers answer"),
    ]
    assert checked([silent, full]) == [
        ("event loops", False, "the event loop of worker 1 does not turn"),
        fine[1],
        ("queues", False, "the queue of worker 2 is full"),
    ]


def test_slow_queries_count_from_when_somebody_waits_for_them() -> None:
    def waited_for_later(now: float) -> Seen:
        return stuck(now) if now >= START + 30 else slow(now)

    assert looked_at([waited_for_later], 30 + UNREADY - LOOK_EVERY_SECONDS) is None
    found = looked_at([waited_for_later], 30 + UNREADY)
    assert found is not None and found.since == START + 30


def test_a_queue_that_is_not_full_all_the_time_is_not_full() -> None:
    def mostly(now: float) -> Seen:
        return busy(now) if now % 5 < LOOK_EVERY_SECONDS else full(now)

    assert looked_at([mostly, mostly], 60) is None


def test_whoever_gets_ahead_again_is_ready_at_once_and_counts_anew() -> None:
    readiness = Readiness()
    assert looked_at([full], UNREADY, readiness) is not None
    now = START + UNREADY + LOOK_EVERY_SECONDS
    assert readiness.look([well(now)], now) is None
    assert readiness.look([full(now)], now) is None


def test_time_in_which_the_master_did_not_look_is_nobody_elses() -> None:
    readiness = Readiness()
    assert readiness.look([stuck(START)], START) is None
    late = START + 60
    assert readiness.look([silent(late)], late) is None
    assert readiness.look([stuck(late)], late) is None
    on_time = [late + number * LOOK_EVERY_SECONDS for number in range(1, int(SILENT_SECONDS / LOOK_EVERY_SECONDS) + 1)]
    found = [readiness.look([silent(now)], now) for now in on_time]
    assert found[:-1] == [None] * (len(found) - 1)
    assert found[-1] == NotReady("no worker's event loop turns", late)

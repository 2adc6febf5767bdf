"""What load balancers are told of the capacity of a host."""

import pytest

from clusterd.master.rotation import capacity
from clusterd.master.rotation.answers import LEAST_WEIGHT, MOST_WEIGHT, POINTS_A_SECOND, approached, line
from clusterd.master.rotation.capacity import (
    CHANGE_A_SECOND,
    HALVING_SECONDS,
    ROOM_IF_BUSY,
    UNNOTICED_SECONDS,
    Worked,
    crowding,
    free_capacity,
    room,
)
from clusterd.master.rotation.usual import (
    FEWEST,
    FEWEST_NOW,
    JUDGED_SECONDS,
    LEAST_PACE,
    PERIOD_SECONDS,
    REMEMBERED_SECONDS,
    Usual,
)
from clusterd.supervisor.model.rotation import Rotation

IDLE = Worked(busy=0.0, waited=0.0)


# ---- capacity


@pytest.mark.parametrize(
    ("busy", "left"), [(0.0, 1.0), (0.5, 1.0), (0.75, 0.8), (1.0, ROOM_IF_BUSY), (7.0, ROOM_IF_BUSY)]
)
def test_a_busy_worker_has_less_room(busy: float, left: float) -> None:
    assert room(busy) == pytest.approx(left)


@pytest.mark.parametrize(("workers", "free"), [(0, 0.0), (1, 0.25), (2, 0.5), (4, 1.0), (5, 1.0)])
def test_slots_without_a_worker_count_nothing(workers: int, free: float) -> None:
    assert free_capacity([IDLE] * workers, 4) == free


def settled(*waits: float) -> float:
    """What is left in the long run of a service whose workers have requests wait for so long."""
    return crowding(0.5, [Worked(0.0, waited) for waited in waits], 3600.0)


def test_the_longer_requests_wait_the_less_is_left() -> None:
    assert settled() == 1.0
    assert settled(0.0, 0.0) == 1.0
    assert settled(UNNOTICED_SECONDS) == 1.0
    half = UNNOTICED_SECONDS + HALVING_SECONDS
    assert settled(half) == settled(0.0, 2 * half) == pytest.approx(0.5)
    assert settled(1.0) < settled(0.5)
    assert settled(1000.0) == capacity.LEAST_CROWDING


def test_what_waits_changes_little_in_a_second() -> None:
    long = [Worked(0.0, 60.0)]
    assert crowding(1.0, long, 1.0) == pytest.approx(1 / CHANGE_A_SECOND)
    assert crowding(0.5, [IDLE], 2.0) == pytest.approx(0.5 * CHANGE_A_SECOND**2)
    assert crowding(0.5, long, 0.0) == 0.5


# ---- what is usual


def after(usual: Usual, mean: float, *, began: float, periods: int = 1, count: int = FEWEST) -> float:
    """Requests that take `mean`, for so many periods. Returns when they end."""
    for period in range(periods):
        usual.add(0.0, 0, began + period * PERIOD_SECONDS)
        usual.add(mean * count, count, began + (period + 1) * PERIOD_SECONDS)
    return began + periods * PERIOD_SECONDS


def test_what_is_not_known_yet_is_not_slow() -> None:
    usual = Usual()
    usual.add(50.0, 10, 0.0)
    assert usual.pace(0.0) == 1.0


@pytest.mark.parametrize(("times", "pace"), [(1.0, 1.0), (2.0, 1.0), (4.0, 0.25), (5.0, 0.2), (50.0, LEAST_PACE)])
def test_requests_that_take_longer_than_usual_make_a_slow_host(times: float, pace: float) -> None:
    usual = Usual()
    now = after(usual, 0.0625, began=0.0)
    usual.add(0.0625 * times * FEWEST_NOW, FEWEST_NOW, now)
    assert usual.pace(now) == pytest.approx(pace)


def test_a_host_that_is_itself_again_has_all_its_pace_at_once() -> None:
    usual = Usual()
    now = after(usual, 0.1, began=0.0)
    now = after(usual, 1.0, began=now, periods=3)
    assert usual.pace(now) == LEAST_PACE
    usual.add(0.1 * FEWEST_NOW, FEWEST_NOW, now)
    assert usual.pace(now) == 1.0


def test_a_pace_that_is_not_judged_anew_is_forgotten() -> None:
    usual = Usual()
    now = after(usual, 1.0, began=after(usual, 0.1, began=0.0))
    assert usual.pace(now + JUDGED_SECONDS) == LEAST_PACE
    assert usual.pace(now + JUDGED_SECONDS + 1) == 1.0


def test_few_requests_say_nothing_of_what_is_usual() -> None:
    usual = Usual()
    now = after(usual, 0.001, began=0.0, count=FEWEST - 1)
    usual.add(1.0 * FEWEST_NOW, FEWEST_NOW, now)
    assert usual.pace(now) == 1.0


def test_what_was_usual_is_forgotten_after_an_hour_also_of_little_load() -> None:
    usual = Usual()
    now = after(usual, 0.1, began=0.0)
    now = after(usual, 1.0, began=now, count=FEWEST - 1, periods=int(REMEMBERED_SECONDS / PERIOD_SECONDS))
    usual.add(1.0 * FEWEST_NOW, FEWEST_NOW, now + 1)
    assert usual.pace(now + 1) == 1.0


# ---- answers


def test_the_weight_changes_slowly_and_never_drains() -> None:
    assert approached(100.0, 20.0, 1.0) == 100.0 - POINTS_A_SECOND
    assert approached(20.0, 100.0, 0.5) == 20.0 + POINTS_A_SECOND / 2
    assert approached(50.0, 51.0, 1.0) == 51.0
    assert approached(5.0, 0.0, 60.0) == LEAST_WEIGHT
    assert approached(95.0, 900.0, 60.0) == MOST_WEIGHT


@pytest.mark.parametrize(
    ("rotation", "stops", "is_empty", "not_ready", "answer"),
    [
        (Rotation.IN, False, False, None, "ready up 75%\n"),
        (Rotation.IN, False, True, "no worker is ready", "down #no worker is ready\n"),
        (Rotation.IN, False, True, "Lücke\nund\x1b[1m", "down #L?cke und [1m\n"),
        (Rotation.LEAVING, False, True, None, "drain\n"),
        (Rotation.OUT, False, False, None, "drain\n"),
        (Rotation.OUT, False, True, "no worker is ready", "maint\n"),
        (Rotation.IN, True, True, None, "drain\n"),
        (Rotation.OUT, True, True, None, "drain\n"),
    ],
)
def test_the_line_says_what_to_send(
    rotation: Rotation, stops: bool, is_empty: bool, not_ready: str | None, answer: str
) -> None:
    assert line(rotation, stops=stops, is_empty=is_empty, not_ready=not_ready, weight=74.6) == answer


def test_a_long_reason_stays_short() -> None:
    answer = line(Rotation.IN, stops=False, is_empty=True, not_ready="x" * 500, weight=1.0)
    assert len(answer) < 100
    assert answer.endswith("\n")

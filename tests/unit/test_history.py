"""Rates and latencies of the last 15 minutes, from counters that are read every few seconds."""

import pytest

from clusterd.dashboard.history import (
    SAMPLE_SECONDS,
    SAMPLES,
    SLOT_SAMPLES,
    Activity,
    Counters,
    History,
    Reading,
    quantile,
)

pytestmark = pytest.mark.engine_independent

BOUNDS = (0.01, 0.1, 1.0)


def reading(number: int, **slots: tuple[int, int, tuple[int, ...], float]) -> Reading:
    counters = {int(name.removeprefix("slot")): Counters(*counted) for name, counted in slots.items()}
    return Reading(1000 + number * SAMPLE_SECONDS, counters, in_flight=number, queue=0, memory=1 << 20)


def test_a_point_is_what_happened_between_two_readings() -> None:
    history = History(BOUNDS)
    history.add(reading(0, slot1=(100, 50, (100, 0, 0, 0), 1.0)), [1])
    assert not history.points
    history.add(reading(1, slot1=(150, 60, (100, 50, 0, 0), 2.0), slot2=(50, 0, (0, 0, 50, 0), 0.5)), [1, 2])
    (point,) = history.points
    assert (point.rate, point.errors, point.in_flight) == (20.0, 2.0, 1)
    assert point.p50 == 0.1 and point.p99 == pytest.approx(0.98, abs=0.01)


def test_nothing_answered_is_no_latency_and_not_one_of_zero() -> None:
    history = History(BOUNDS)
    for number in range(2):
        history.add(reading(number, slot1=(7, 0, (7, 0, 0, 0), 0.0)), [1])
    assert history.points[0].rate == 0
    assert history.points[0].p50 is None


def test_no_more_is_kept_than_15_minutes_and_the_slots_that_are_wanted() -> None:
    history = History(BOUNDS)
    for number in range(SAMPLES + 50):
        slots = [1, 2] if number < 100 else [1]
        history.add(reading(number, slot1=(number, 0, (number, 0, 0, 0), 0.0), slot2=(0, 0, (0,) * 4, 0.0)), slots)
    assert len(history.points) == SAMPLES
    assert history.rates(1) == (0.2,) * (SAMPLES // SLOT_SAMPLES)
    assert history.rates(2) == ()


def test_a_rate_is_over_some_seconds_and_latencies_are_over_a_minute() -> None:
    history = History(BOUNDS)
    for number in range(20):
        history.add(reading(number, slot1=(10 * number, number, (0, 10 * number, 0, 0), 0.5 * number)), [1])
    now = Reading(1000 + 19 * SAMPLE_SECONDS + 1, {1: Counters(210, 20, (20, 190, 0, 0), 10.0)}, 0, 0, 0)
    of_slots, together = history.activity(now)
    assert of_slots == {1: together}
    # The last reading is a second old, so the one before it is taken: 30 requests in 6 seconds.
    assert together == Activity(rate=5.0, cpu=0.167, requests=140, errors=13, p50=0.0475, p99=0.0989)


def test_before_the_second_reading_there_are_no_rates() -> None:
    history, first = History(BOUNDS), reading(0, slot1=(9, 0, (9, 0, 0, 0), 0.0))
    assert history.activity(first) == ({1: Activity()}, Activity())
    history.add(first, [1])
    assert history.activity(first)[1].rate is None


def test_a_slot_that_is_new_has_counted_everything_since_and_one_that_is_gone_takes_nothing_back() -> None:
    history = History(BOUNDS)
    history.add(reading(0, slot1=(1000, 0, (1000, 0, 0, 0), 9.0)), [1])
    now = reading(1, slot1=(1000, 0, (1000, 0, 0, 0), 8.0), slot2=(10, 0, (10, 0, 0, 0), 1.0))
    of_slots, together = history.activity(now)
    assert (of_slots[1].rate, of_slots[2].rate, together.rate) == (0, 2, 2)
    assert of_slots[1].cpu == 0


@pytest.mark.parametrize(
    ("buckets", "share", "expected"),
    [
        ((0, 0, 0, 0), 0.5, None),
        ((), 0.5, None),
        ((100, 0, 0, 0), 0.5, 0.005),
        ((0, 100, 0, 0), 0.5, 0.055),
        ((50, 0, 50, 0), 0.5, 0.01),
        ((1, 0, 0, 0), 0.99, 0.0099),
        ((0, 0, 0, 10), 0.5, 1.0),
        ((90, 0, 0, 10), 0.99, 1.0),
    ],
)
def test_quantiles_are_prometheus_s(buckets: tuple[int, ...], share: float, expected: float | None) -> None:
    assert quantile(buckets, BOUNDS, share) == (None if expected is None else pytest.approx(expected))

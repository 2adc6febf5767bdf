"""When the loop is lent, as far as the length of calls decides it."""

from hypothesis import given
from hypothesis import strategies as st

from clusterd.http.wsgi.pool.call_durations import (
    AGAIN_CALLS,
    FIRST_CALLS,
    LONG_SECONDS,
    MOST_CALLS,
    SHORT_SECONDS,
    WORTH_CALLS,
    CallDurations,
)

SHORT = SHORT_SECONDS / 5
LONG = LONG_SECONDS * 50


def pace_after(calls: int, seconds: float) -> CallDurations:
    pace = CallDurations()
    for _ in range(calls):
        pace.took(seconds, 1)
    return pace


def calls_until_short(pace: CallDurations) -> int:
    calls = 0
    while not pace.is_short:
        pace.took(SHORT, 1)
        calls += 1
    return calls


def test_calls_are_known_to_be_short_when_enough_of_them_were() -> None:
    assert not CallDurations().is_short
    assert not pace_after(FIRST_CALLS - 1, SHORT).is_short
    assert pace_after(FIRST_CALLS, SHORT).is_short


def test_those_in_between_are_neither_short_nor_long() -> None:
    pace = pace_after(1000, (SHORT_SECONDS + LONG_SECONDS) / 2)
    assert not pace.is_short
    assert not pace.is_long


def test_one_that_lost_the_processor_does_not_make_all_long() -> None:
    pace = pace_after(1000, SHORT)
    pace.took(LONG, 1)
    assert not pace.is_long
    for _ in range(5):
        pace.took(LONG, 1)
    assert pace.is_long


def test_after_a_pause_of_the_clients_few_have_to_be_seen_again() -> None:
    pace = pace_after(1000, SHORT)
    pace.begin_again(10, waited=False)
    assert calls_until_short(pace) == AGAIN_CALLS


def test_after_long_ones_the_same_number_has_to_be_seen_again() -> None:
    pace = pace_after(1000, LONG)
    pace.begin_again(10, waited=False)
    assert calls_until_short(pace) >= FIRST_CALLS


def test_a_pause_forgives_no_mistake() -> None:
    pace = pace_after(1000, SHORT)
    pace.begin_again(10, waited=True)
    assert calls_until_short(pace) == FIRST_CALLS * 4
    pace.begin_again(10, waited=False)
    assert calls_until_short(pace) == AGAIN_CALLS
    pace.begin_again(10, waited=True)
    assert calls_until_short(pace) == FIRST_CALLS * 16


def test_each_mistake_is_followed_by_a_longer_look() -> None:
    pace = pace_after(1000, SHORT)
    looks = []
    for _ in range(8):
        pace.begin_again(10, waited=True)
        looks.append(calls_until_short(pace))
    assert looks[:3] == [FIRST_CALLS * 4, FIRST_CALLS * 16, FIRST_CALLS * 64]
    assert looks[-1] == MOST_CALLS
    pace.begin_again(WORTH_CALLS, waited=True)
    assert calls_until_short(pace) == FIRST_CALLS


def test_many_in_a_row_count_like_one_after_the_other() -> None:
    at_once, one_by_one = CallDurations(), CallDurations()
    for _ in range(100):
        at_once.took(8 * SHORT, 8)
        for _ in range(8):
            one_by_one.took(SHORT, 1)
        assert at_once.is_short == one_by_one.is_short
        assert at_once.is_long == one_by_one.is_long


@given(st.lists(st.tuples(st.floats(0, 3600), st.integers(1, 100))))
def test_it_is_never_short_and_long_at_once(turns: list[tuple[float, int]]) -> None:
    pace = CallDurations()
    for seconds, calls in turns:
        pace.took(seconds, calls)
        assert not (pace.is_short and pace.is_long)

"""The requests in a process's hands, in its row of the scoreboard."""

import os
import threading
from collections.abc import Iterator

import pytest

from clusterd.metrics.shared.counting import RequestCounter
from clusterd.metrics.shared.in_hand import PLACES
from clusterd.metrics.shared.scoreboard import MAXIMUM_ROWS, Scoreboard


@pytest.fixture
def scoreboard() -> Iterator[Scoreboard]:
    made = Scoreboard.create()
    yield made
    made.close()


def test_what_is_in_hand_can_be_read_by_others_until_it_is_over(scoreboard: Scoreboard) -> None:
    other = Scoreboard.attach(os.dup(scoreboard.descriptor))
    row = scoreboard.lease()
    ours = scoreboard.in_hand(row)
    first, second = ours.begin("GET /first"), ours.begin("POST /second")
    assert other.in_hand(row).requests() == ("GET /first", "POST /second")
    ours.end(*first)
    assert other.in_hand(row).requests() == ("POST /second",)
    ours.end(*second)
    ours.begin("GET /")
    assert other.in_hand(row).requests() == ("GET /",)
    scoreboard.release(row)
    assert other.in_hand(row).requests() == ()
    other.close()


def test_the_oldest_gives_its_place_up_and_its_end_is_not_the_others(scoreboard: Scoreboard) -> None:
    in_hand = scoreboard.in_hand(0)
    places = [in_hand.begin(f"GET /{number}") for number in range(PLACES + 2)]
    assert sorted(in_hand.requests()) == [f"GET /{number}" for number in range(2, PLACES + 2)]
    for place in places[:2]:
        in_hand.end(*place)
    assert len(in_hand.requests()) == PLACES
    for place in places[2:]:
        in_hand.end(*place)
    assert in_hand.requests() == ()


def test_a_long_request_is_cut_and_nothing_else_is_touched(scoreboard: Scoreboard) -> None:
    for row in (0, 1):
        RequestCounter(scoreboard.row(row)).request_done(599, 1000.0, 0.0)
    before = [scoreboard.row(row).totals() for row in (0, 1)]
    in_hand = scoreboard.in_hand(0)
    for _ in range(PLACES):
        in_hand.begin("GET /" + "x" * 1000)
    assert in_hand.requests() == ("GET /" + "x" * 184 + "...",) * PLACES
    assert [scoreboard.row(row).totals() for row in (0, 1)] == before
    assert scoreboard.in_hand(1).requests() == ()


def test_threads_do_not_get_in_each_others_way(scoreboard: Scoreboard) -> None:
    in_hand = scoreboard.in_hand(0)

    def work(name: str) -> None:
        for _ in range(500):
            place = in_hand.begin(name)
            assert name in in_hand.requests()
            in_hand.end(*place)

    failures: list[object] = []
    threads = [threading.Thread(target=work, args=(f"GET /{number}",)) for number in range(PLACES)]
    before, threading.excepthook = threading.excepthook, failures.append
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        threading.excepthook = before
    assert failures == []
    assert in_hand.requests() == ()


def test_the_watch_is_the_same_for_all(scoreboard: Scoreboard) -> None:
    other = Scoreboard.attach(os.dup(scoreboard.descriptor))
    assert other.watched_until == 0
    scoreboard.watched_until = 123
    scoreboard.lease()
    assert other.watched_until == 123
    with pytest.raises(IndexError):
        other.in_hand(MAXIMUM_ROWS)
    other.close()

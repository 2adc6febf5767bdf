"""The folded counts of a slot."""

from collections.abc import Iterator

import pytest

from clusterd.metrics.page.ledger import Ledger
from clusterd.metrics.shared.counting import RequestCounter
from clusterd.metrics.shared.row import Row, Totals
from clusterd.metrics.shared.scoreboard import Scoreboard


@pytest.fixture
def scoreboard() -> Iterator[Scoreboard]:
    made = Scoreboard.create()
    yield made
    made.close()


def serve(row: Row, requests: int) -> None:
    counter = RequestCounter(row)
    for _ in range(requests):
        counter.request_done(200, 0.5, 0.0)
    counter.publish()


def requests_of(totals: Totals) -> int:
    return sum(Row.responses.by_class(totals).values())


def test_counts_never_go_back_over_a_slots_processes(scoreboard: Scoreboard) -> None:
    ledger = Ledger()
    expected = 0
    for requests in (3, 0, 5):
        index = scoreboard.lease()
        row = scoreboard.row(index)
        serve(row, requests)
        expected += requests
        assert requests_of(ledger.totals(1, [row])) == expected
        ledger.fold(1, row, 0.25)
        scoreboard.release(index)
        assert requests_of(ledger.totals(1, [])) == expected
    assert Row.responses.durations_by_class(ledger.totals(1, []))["2xx"][1] == 4.0
    assert ledger.cpu_seconds(1) == 0.75


def test_a_predecessor_and_a_successor_count_beside_each_other(scoreboard: Scoreboard) -> None:
    rows = [scoreboard.row(scoreboard.lease()) for _ in range(2)]
    serve(rows[0], 2)
    serve(rows[1], 3)
    ledger = Ledger()
    assert requests_of(ledger.totals(1, rows)) == 5
    ledger.fold(1, rows[0], 0.0)
    assert requests_of(ledger.totals(1, rows[1:])) == 5


def test_slots_are_apart_and_unknown_ones_are_empty(scoreboard: Scoreboard) -> None:
    ledger = Ledger()
    row = scoreboard.row(scoreboard.lease())
    serve(row, 2)
    ledger.fold(1, row, 1.0)
    assert ledger.totals(2, []) == Totals()
    assert ledger.cpu_seconds(2) == 0.0
    assert ledger.slots() == {1}

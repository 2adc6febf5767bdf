"""The scoreboard's rows, leases and totals."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.metrics.shared import scoreboard as module
from clusterd.metrics.shared.counting import RequestCounter
from clusterd.metrics.shared.row import BUCKETS, CODE_CLASSES, ROW_CELLS, Totals
from clusterd.metrics.shared.scoreboard import MAXIMUM_ROWS, Peers, Scoreboard, ScoreboardError


@pytest.fixture
def scoreboard() -> Iterator[Scoreboard]:
    made = Scoreboard.create()
    yield made
    made.close()


def test_the_lowest_free_row_is_leased(scoreboard: Scoreboard) -> None:
    assert [scoreboard.lease() for _ in range(3)] == [0, 1, 2]
    scoreboard.release(1)
    assert [scoreboard.lease() for _ in range(2)] == [1, 3]


def test_a_row_is_returned_only_once(scoreboard: Scoreboard) -> None:
    row = scoreboard.lease()
    scoreboard.release(row)
    with pytest.raises(KeyError):
        scoreboard.release(row)


def test_no_more_rows_than_there_are(scoreboard: Scoreboard) -> None:
    for _ in range(MAXIMUM_ROWS):
        last = scoreboard.lease()
    scoreboard.row(last).connections = 7
    assert scoreboard.row(last).connections == 7
    with pytest.raises(ScoreboardError, match="4096 rows"):
        scoreboard.lease()
    for index in (-1, MAXIMUM_ROWS):
        with pytest.raises(IndexError):
            scoreboard.row(index)


def test_a_released_row_is_empty_for_its_next_holder_and_its_neighbours_are_untouched(
    scoreboard: Scoreboard,
) -> None:
    rows = [scoreboard.row(scoreboard.lease()) for _ in range(3)]
    for row in rows:
        row.started_at = 1.5
        RequestCounter(row).request_done(599, 1000.0)
    scoreboard.release(1)
    assert rows[1].integers.tolist() == [0] * ROW_CELLS
    assert [row.requests for row in rows] == [1, 0, 1]


def test_all_numbers_of_a_row_are_apart_from_each_other(scoreboard: Scoreboard) -> None:
    row = scoreboard.row(3)
    names = ["heartbeat", "progress", "accepting", "connections", "threads_free", "threads_busy", "in_flight"]
    names += ["queue_length", "accepted", "handed_over", "adopted", "timed_out", "log_dropped"]
    for number, name in enumerate(names, start=1):
        setattr(row, name, number)
    row.started_at = 0.5
    RequestCounter(row).request_done(200, 3.0)
    RequestCounter(row).request_timed_out()
    RequestCounter(row).connections_changed(40)
    expected = dict(zip(names, range(1, 14), strict=True)) | {"timed_out": 13, "connections": 40}
    assert {name: getattr(row, name) for name in names} == expected
    assert row.started_at == 0.5
    totals = row.totals()
    assert (totals.accepted, totals.handed_over, totals.adopted, totals.timed_out) == (9, 10, 11, 13)
    assert totals.log_dropped == 13
    assert totals.seconds == 3.0


@pytest.mark.parametrize(
    ("status", "code"),
    [
        *[(100, "1xx"), (200, "2xx"), (299, "2xx"), (304, "3xx"), (404, "4xx"), (503, "5xx"), (599, "5xx")],
        *[(0, "other"), (99, "other"), (600, "other"), (999, "other")],
    ],
)
def test_requests_are_counted_by_code_class(scoreboard: Scoreboard, status: int, code: str) -> None:
    row = scoreboard.row(0)
    RequestCounter(row).request_done(status, 0.0)
    assert dict(zip(CODE_CLASSES, row.totals().requests, strict=True)) == {
        name: int(name == code) for name in CODE_CLASSES
    }


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.001, 0), (0.0011, 1), (0.0025, 1), (0.0026, 2), (10.0, 12), (10.1, 13), (1e6, 13)],
)
def test_a_bound_belongs_to_its_bucket(scoreboard: Scoreboard, seconds: float, bucket: int) -> None:
    row = scoreboard.row(0)
    RequestCounter(row).request_done(200, seconds)
    assert row.totals().buckets == tuple(int(number == bucket) for number in range(len(BUCKETS) + 1))


@given(st.lists(st.tuples(st.integers(0, 999), st.floats(0, 100)), max_size=50))
def test_both_series_count_the_same_requests(requests: list[tuple[int, float]]) -> None:
    scoreboard = Scoreboard.create()
    row = scoreboard.row(0)
    for status, seconds in requests:
        RequestCounter(row).request_done(status, seconds)
    totals = row.totals()
    assert sum(totals.requests) == sum(totals.buckets) == row.requests == len(requests)
    assert totals.seconds == pytest.approx(sum(seconds for _, seconds in requests))
    for number, bound in enumerate(BUCKETS):
        assert sum(totals.buckets[: number + 1]) == sum(seconds <= bound for _, seconds in requests)
    scoreboard.close()


def test_totals_add_up_field_by_field() -> None:
    one = Totals((1, 2, 3, 4, 5, 6), tuple(range(14)), 1.5, 1, 2, 3, 4, 5)
    assert one + one == Totals((2, 4, 6, 8, 10, 12), tuple(range(0, 28, 2)), 3.0, 2, 4, 6, 8, 10)
    assert Totals() + one == one


def test_what_is_attached_is_the_same_memory(scoreboard: Scoreboard) -> None:
    other = Scoreboard.attach(os.dup(scoreboard.descriptor))
    other.row(5).connections = 3
    assert scoreboard.row(5).connections == 3
    other.close()


def test_another_layout_is_refused(scoreboard: Scoreboard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEADER", (*module.HEADER[:1], 99, *module.HEADER[2:]))
    with pytest.raises(ScoreboardError, match="99"):
        Scoreboard.attach(scoreboard.descriptor)
    os.fstat(scoreboard.descriptor)


def test_something_else_is_refused() -> None:
    descriptor = os.memfd_create("other", os.MFD_CLOEXEC)
    with pytest.raises(ScoreboardError, match="found 0"):
        Scoreboard.attach(descriptor)
    os.close(descriptor)


def test_nobody_can_shrink_the_memory_under_the_others(scoreboard: Scoreboard) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(scoreboard.descriptor, 4096)


def test_peers_are_the_others_that_accept(scoreboard: Scoreboard) -> None:
    rows = [scoreboard.row(scoreboard.lease()) for _ in range(4)]
    assert scoreboard.peers(0, 0) is None
    for row, accepting, connections, threads_free in zip(rows, (1, 1, 1, 0), (0, 5, 9, 2), (4, 0, 0, 4), strict=True):
        row.accepting, row.connections, row.threads_free, row.heartbeat = accepting, connections, threads_free, 1000
    assert scoreboard.peers(0, 1000) == Peers(row=1, least_connections=5, has_free_thread=False)
    assert scoreboard.peers(1, 1000) == Peers(row=0, least_connections=0, has_free_thread=True)
    scoreboard.release(0)
    assert scoreboard.peers(1, 1000) == Peers(row=2, least_connections=9, has_free_thread=False)
    scoreboard.release(2)
    scoreboard.release(3)
    assert scoreboard.peers(1, 1000) is None


def test_a_peer_with_a_free_thread_is_preferred_and_one_whose_loop_stands_still_does_not_count(
    scoreboard: Scoreboard,
) -> None:
    rows = [scoreboard.row(scoreboard.lease()) for _ in range(3)]
    for row, connections, threads_free in zip(rows, (0, 5, 9), (0, 0, 1), strict=True):
        row.accepting, row.connections, row.threads_free, row.heartbeat = 1, connections, threads_free, 1000
    assert scoreboard.peers(0, 1000) == Peers(row=2, least_connections=9, has_free_thread=True)
    rows[2].heartbeat = 999
    assert scoreboard.peers(0, 1000) == Peers(row=1, least_connections=5, has_free_thread=False)

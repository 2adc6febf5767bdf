"""The scoreboard's rows, leases and totals."""

import os
from array import array
from collections.abc import Iterator
from dataclasses import fields
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.config.limits import Timeouts
from clusterd.http.ports import RefusedFor, TimedOut
from clusterd.metrics.shared import scoreboard as module
from clusterd.metrics.shared.counting import RequestCounter
from clusterd.metrics.shared.row import DURATIONS, ENDS_NOTHING, REFUSALS, ROW_CELLS, SERIES, TIMEOUTS, Row, Totals
from clusterd.metrics.shared.scoreboard import MAXIMUM_ROWS, Peers, Scoreboard, ScoreboardError
from clusterd.metrics.shared.series import Counter, Gauge, Internal, Responses


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
        RequestCounter(row).request_done(599, 1000.0, 0.0)
    scoreboard.release(1)
    assert rows[1].integers.tolist() == [0] * ROW_CELLS
    assert [row.requests for row in rows] == [1, 0, 1]


NUMBERS = {name: each for name, each in vars(Row).items() if isinstance(each, (Counter, Gauge, Internal))}


def test_all_numbers_of_a_row_are_apart_from_each_other(scoreboard: Scoreboard) -> None:
    row = scoreboard.row(3)
    row.integers[:] = memoryview(bytes(ROW_CELLS * 8)).cast("q")
    for number, name in enumerate(NUMBERS, start=1):
        setattr(row, name, number)
    row.started_at = 0.5
    Row.refused.add(row, "tls", 50)
    Row.timeouts.add(row, "write", 60)
    Row.collections.write(row, [70, 71, 72])
    Row.loop_lag.observe(row, 100.0)
    assert {name: getattr(row, name) for name in NUMBERS} == dict(zip(NUMBERS, range(1, 100), strict=False))
    assert row.started_at == 0.5
    totals = row.totals()
    assert {name: each.of(totals) for name, each in NUMBERS.items() if isinstance(each, Counter)} == {
        name: getattr(row, name) for name, each in NUMBERS.items() if isinstance(each, Counter)
    }
    assert Row.refused.of(totals) == dict.fromkeys(REFUSALS, 0) | {"tls": 50}
    assert Row.timeouts.of(totals)["write"] == 60
    assert Row.collections.of(totals) == {"0": 70, "1": 71, "2": 72}
    counts, seconds = Row.loop_lag.of(totals)
    assert (counts[-1], sum(counts), seconds) == (1, 1, 100.0)


def test_no_two_series_share_a_cell() -> None:
    cells = [cell for each in SERIES for cell in range(each.start, each.start + each.cells)]
    sums = [cell for each in SERIES for cell in range(each.sum_start, each.sum_start + each.sums)]
    assert sorted(cells + sums) == list(range(len(cells + sums)))
    assert len(cells + sums) <= ROW_CELLS
    assert ROW_CELLS % 8 == 0


def test_what_is_counted_is_what_the_engine_names() -> None:
    assert set(get_args(RefusedFor)) == set(REFUSALS)
    assert set(get_args(TimedOut)) == set(TIMEOUTS) - {"hang"}  # The master counts these: the worker cannot.
    assert {*TIMEOUTS, *ENDS_NOTHING} == {field.name for field in fields(Timeouts)}


def test_a_label_has_no_other_values(scoreboard: Scoreboard) -> None:
    with pytest.raises(ValueError, match="not in"):
        Row.refused.add(scoreboard.row(0), "a whim")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        *[(100, "1xx"), (200, "2xx"), (299, "2xx"), (304, "3xx"), (404, "4xx"), (503, "5xx"), (599, "5xx")],
        *[(0, "other"), (99, "other"), (600, "other"), (999, "other")],
    ],
)
def test_requests_are_counted_by_code_class(scoreboard: Scoreboard, status: int, code: str) -> None:
    row = scoreboard.row(0)
    RequestCounter(row).request_done(status, 0.0, 0.0)
    assert Row.responses.by_class(row.totals()) == {name: int(name == code) for name in Responses.CLASSES}


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [
        *[(0.0, 0), (0.0001, 0), (0.00011, 1), (0.00025, 1), (0.0003, 2), (0.0005, 2), (0.0006, 3), (0.001, 3)],
        *[(0.0011, 4), (0.0025, 4), (0.0026, 5), (10.0, 15), (10.1, 16), (1e6, 16)],
    ],
)
def test_a_bound_belongs_to_its_bucket(scoreboard: Scoreboard, seconds: float, bucket: int) -> None:
    row = scoreboard.row(0)
    counter = RequestCounter(row)
    counter.request_done(200, seconds, seconds)
    counter.publish()
    expected = tuple(int(number == bucket) for number in range(len(DURATIONS) + 1)), seconds
    assert Row.responses.durations_by_class(row.totals())["2xx"] == expected
    assert Row.queue.of(row.totals()) == expected


@given(st.lists(st.tuples(st.integers(0, 999), st.floats(0, 100)), max_size=50))
def test_both_series_count_the_same_requests(requests: list[tuple[int, float]]) -> None:
    scoreboard = Scoreboard.create()
    row = scoreboard.row(0)
    counter = RequestCounter(row)
    for status, seconds in requests:
        counter.request_done(status, seconds, -1.0)
    counter.publish()
    totals = row.totals()
    durations = Row.responses.durations_by_class(totals)
    assert {code: sum(counts) for code, (counts, _) in durations.items()} == Row.responses.by_class(totals)
    assert row.requests == len(requests)
    for place, code in enumerate(Responses.CLASSES):
        found = [seconds for status, seconds in requests if Row.responses.class_of(status) == place]
        counts, seconds = durations[code]
        assert seconds == pytest.approx(sum(found))
        for number, bound in enumerate(DURATIONS):
            assert sum(counts[: number + 1]) == sum(each <= bound for each in found)
    assert Row.queue.of(totals) == ((0,) * (len(DURATIONS) + 1), 0.0)
    scoreboard.close()


def test_a_refused_request_is_counted_and_has_no_duration(scoreboard: Scoreboard) -> None:
    row = scoreboard.row(0)
    counter = RequestCounter(row)
    counter.request_refused("queue_full", 503)
    counter.request_refused("connections", 0)
    counter.request_refused("connections", 0)
    counter.refusal_sent(503)
    totals = row.totals()
    assert Row.responses.by_class(totals)["5xx"] == row.requests == 2
    assert Row.responses.durations_by_class(totals)["5xx"] == ((0,) * (len(DURATIONS) + 1), 0.0)
    assert Row.refused.of(totals) == dict.fromkeys(REFUSALS, 0) | {"queue_full": 1, "connections": 2}


def test_what_is_in_flight_and_busy_is_known_before_anything_is_published(scoreboard: Scoreboard) -> None:
    row = scoreboard.row(0)
    row.threads = 2
    counter = RequestCounter(row)
    for jobs in (1, 2, 3):
        counter.request_begun()
        counter.jobs_changed(jobs)
    assert (row.in_flight, row.threads_busy, row.queue_length) == (3, 2, 1)
    counter.jobs_changed(2)
    counter.request_done(200, 0.0, 0.0)
    counter.request_dropped()
    assert (row.in_flight, row.threads_busy, row.queue_length, row.requests) == (1, 2, 0, 1)


def test_totals_add_up_number_by_number(scoreboard: Scoreboard) -> None:
    row = scoreboard.row(0)
    row.integers[:] = memoryview(array("q", range(ROW_CELLS)))
    one = row.totals()
    assert one + one == Totals(tuple(2 * count for count in one.counts), tuple(2 * seconds for seconds in one.sums))
    assert Totals() + one == one
    assert len(set(one.counts)) == len(one.counts)


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


def test_a_master_that_takes_over_clears_what_it_does_not_know(scoreboard: Scoreboard) -> None:
    """An earlier one was killed right after forks and deaths that it had not written down."""
    rows = [scoreboard.row(scoreboard.lease()) for _ in range(6)]
    rows.append(scoreboard.row(MAXIMUM_ROWS - 1))
    for index, row in enumerate(rows):
        row.integers[:] = memoryview(array("q", [index + 1] * ROW_CELLS))
    places = [0, 1, 2, 3, 4, 5, MAXIMUM_ROWS - 1]
    for index in places:
        scoreboard.table(index)[:] = b"x" * len(scoreboard.table(index))
    after = Scoreboard(os.dup(scoreboard.descriptor))
    after.take_over([1, 2, 4])
    kept = [0, 2, 3, 0, 5, 0, 0]
    assert [row.integers.tolist() for row in rows] == [[value] * ROW_CELLS for value in kept]
    tables = [bytes(scoreboard.table(index)) for index in places]
    assert [set(table) for table in tables] == [set(b"x") if value else {0} for value in kept]
    assert [after.lease() for _ in range(3)] == [0, 3, 5]
    Scoreboard.attach(os.dup(after.descriptor)).close()
    after.close()


def test_rows_beside_those_that_are_leased() -> None:
    assert list(module.free_runs([])) == [(0, MAXIMUM_ROWS)]
    assert list(module.free_runs([0, 1, MAXIMUM_ROWS - 1])) == [(2, MAXIMUM_ROWS - 1)]
    assert list(module.free_runs({3, 1})) == [(0, 1), (2, 3), (4, MAXIMUM_ROWS)]

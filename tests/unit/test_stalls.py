"""Event loops that do not turn, and what is told of the requests of such a worker."""

from dataclasses import dataclass

import pytest

from clusterd.master.children.in_hand import MOST_NAMED, listed, of_loop, with_requests
from clusterd.master.health.monitor import Watched
from clusterd.master.health.punctuality import LATE_SECONDS, LOOK_EVERY_SECONDS
from clusterd.master.health.stalls import Stalls
from clusterd.wire.in_hand import Kind, RequestInHand, Table
from tests.support.settings import limits, timeouts

pytestmark = pytest.mark.engine_independent


@dataclass
class Row:
    heartbeat: int


def looks(
    *looked: tuple[float, float], stall: float | None = 1.0, is_debugged: bool = False
) -> list[tuple[float, float]]:
    """When a worker was reported, and for how long it stood. A look has its time, and when the loop has turned last."""
    stalls, found = Stalls(), []
    for now, beat in looked:
        worker = Watched(
            serial=1,
            slot=1,
            pid=42,
            row=Row(int(beat * 1e9)),  # type: ignore[arg-type]
            is_debugged=is_debugged,
            timeouts=timeouts(stall=stall),
            limits=limits(),
        )
        found += [(now, seconds) for _, seconds in stalls.look([worker], now)]
    return found


def test_each_stall_is_reported_once() -> None:
    turns = [(100.25 * 1, 100.25), (100.5, 100.25), (101.0, 100.25), (101.25, 100.25), (101.5, 100.25), (102.0, 100.25)]
    assert looks(*turns) == [(101.25, 1.0)]
    assert looks(*turns, (102.25, 102.0), (102.5, 102.0), (103.0, 102.0), (103.25, 102.0)) == [
        (101.25, 1.0),
        (103.0, 1.0),
    ]


def test_neither_a_debugger_nor_a_master_that_was_late_makes_a_stall() -> None:
    turns = [(100.25 + LOOK_EVERY_SECONDS * number, 100.0) for number in range(10)]
    assert looks(*turns) != []
    assert looks(*turns, stall=None) == []
    assert looks(*turns, is_debugged=True) == []
    late = 100.5 + LATE_SECONDS + 20.0
    assert looks((100.25, 100.0), (late, 100.0), (late + 0.25, 100.0)) == []


STACKS = """Thread 0x00007fe5473576c0 (most recent call first):
  File "app.py", line 12 in die

Thread 0x00007fe547357700 [clusterd-2] (most recent call first):
  File "app.py", line 13 in other

Current thread 0x00007fe5499e9b80 (most recent call first):
  File "process.py", line 104 in run
"""
TABLE = Table(
    (
        RequestInHand("GET", "/hang", 10.0, "127.0.0.1:4711", 0x7FE5473576C0, Kind.REQUEST),
        RequestInHand("GET", "/waits", 11.0, "unix", 0, Kind.LEFT),
    ),
    loop_thread=0x7FE5499E9B80,
)


def test_stacks_say_which_request_each_thread_runs() -> None:
    assert with_requests(STACKS, TABLE).splitlines()[::3] == [
        "Thread 0x00007fe5473576c0, which runs GET /hang (most recent call first):",
        "Thread 0x00007fe547357700 [clusterd-2] (most recent call first):",
        "Current thread 0x00007fe5499e9b80, which runs the event loop (most recent call first):",
    ]
    assert with_requests(STACKS, Table()) == STACKS


def test_the_loops_stack_is_found_also_where_its_thread_runs_a_request() -> None:
    assert of_loop(with_requests(STACKS, TABLE)).splitlines() == [
        "Current thread 0x00007fe5499e9b80, which runs the event loop (most recent call first):",
        '  File "process.py", line 104 in run',
    ]
    leader = Table(TABLE.requests, loop_thread=TABLE.requests[0].thread)
    assert of_loop(with_requests(STACKS, leader)).startswith(
        "Thread 0x00007fe5473576c0, which runs the event loop, which runs GET /hang"
    )
    assert of_loop(STACKS) == STACKS.strip()
    assert of_loop("") == ""


def test_the_oldest_requests_are_listed() -> None:
    assert listed(Table(), 12.5) == "No request is in hand."
    assert listed(TABLE, 12.5).splitlines() == [
        "Requests in hand:",
        "  GET /hang for 2.500 s from 127.0.0.1:4711 (request)",
        "  GET /waits for 1.500 s from unix (left)",
    ]
    many = Table(TABLE.requests[:1] * (MOST_NAMED + 3), unnamed=4)
    assert len(listed(many, 12.0).splitlines()) == MOST_NAMED + 2
    assert listed(many, 12.0).endswith("\n  and 7 more")

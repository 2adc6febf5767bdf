"""What a worker has died of, and what its death has cost."""

import signal

import pytest

from clusterd.supervisor import actions, events
from clusterd.supervisor.model.held import NOTHING_HELD, Cause, Held, HeldRequest
from clusterd.supervisor.model.states import EndReason
from tests.unit.test_restarts import Drill

pytestmark = pytest.mark.engine_independent

HELD = Held((HeldRequest("GET", "/", 1.0, "unix"),))


def ended(*told: events.Event, drill: Drill | None = None) -> actions.WorkerEnded:
    """The end that is told of the worker in slot 1, after these events of it."""
    drill = drill or Drill()
    decided = [action for event in told for action in drill.tell(event)]
    return next(action for action in decided if isinstance(action, actions.WorkerEnded))


def gone(drill: Drill, code: int | None, *, for_memory: bool = False, held: Held = HELD) -> events.WorkerGone:
    by_signal = code is not None and code < 0
    return events.WorkerGone(drill.slots[1], "gone", by_signal, code, for_memory, held)


@pytest.mark.parametrize(
    ("code", "for_memory", "cause"),
    [
        (-signal.SIGSEGV, False, Cause.SIGNAL),
        (-signal.SIGKILL, False, Cause.SIGNAL),
        (-signal.SIGKILL, True, Cause.MEMORY),
        (3, False, Cause.EXIT),
        (0, False, Cause.EXIT),
        (None, False, Cause.EXIT),
    ],
)
def test_what_clusterd_has_not_done_is_told_by_the_exit_status(
    code: int | None, for_memory: bool, cause: Cause | None
) -> None:
    drill = Drill()
    end = ended(gone(drill, code, for_memory=for_memory), drill=drill)
    assert (end.cause, end.held) == (cause, HELD)


def test_an_end_with_an_unknown_status_that_has_cost_nothing_has_no_cause() -> None:
    drill = Drill()
    end = ended(gone(drill, None, held=NOTHING_HELD), drill=drill)
    assert (end.cause, end.held) == (None, NOTHING_HELD)


def test_what_clusterd_has_done_is_told_by_its_reason() -> None:
    drill = Drill()
    drill.supervisor.step(events.WorkerStalled(drill.slots[1], 1000.0, "it stands"), drill.now)
    end = ended(gone(drill, -signal.SIGKILL), drill=drill)
    assert (end.reason, end.cause) == (EndReason.HANG, Cause.HANG)


def test_somebody_who_kills_is_told_from_a_signal() -> None:
    drill = Drill()
    end = ended(events.WorkerKilled(drill.slots[1]), gone(drill, -signal.SIGKILL), drill=drill)
    assert end.cause is Cause.KILLED


@pytest.mark.parametrize(
    ("code", "held", "cause"),
    [(0, HELD, Cause.DRAIN), (0, Held(), None), (-signal.SIGSEGV, HELD, Cause.SIGNAL), (3, HELD, Cause.EXIT)],
)
def test_a_worker_that_drains_may_cut_its_requests_or_die_of_something_else(
    code: int, held: Held, cause: Cause | None
) -> None:
    drill = Drill()
    serial = drill.slots[1]
    drill.supervisor.step(events.ScaleAsked(1), drill.now)
    drill.supervisor.step(events.RequestLimitReached(serial), drill.now)
    for each in (drill.supervisor.cluster.last_serial, drill.supervisor.cluster.last_serial - 1):
        drill.supervisor.step(events.WorkerHello(each, 1), drill.now)
        drill.supervisor.step(events.WorkerReady(each), drill.now)
    end = ended(events.WorkerGone(serial, "gone", code < 0, code, held=held), drill=drill)
    assert end.cause is cause


def test_only_requests_that_somebody_waits_for_are_lost() -> None:
    websocket = HeldRequest("GET", "/ws", 1.0, "unix", is_websocket=True)
    left = HeldRequest("GET", "/left?query", 1.0, "unix", is_left=True)
    held = Held((*HELD.requests, websocket, left), unnamed=3)
    assert held.lost == 4
    assert held.names == ("GET /", "GET /left")

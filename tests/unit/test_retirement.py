"""A worker that is to leave and could not be told so, for want of descriptors, is told again."""

import json

import pytest

from clusterd.config.model import Preload
from clusterd.supervisor import actions, events
from clusterd.supervisor.decisions.slots import RETIRE_AGAIN_SECONDS
from clusterd.supervisor.model.states import EndReason, WorkerState
from clusterd.supervisor.snapshot import restore, snapshot
from clusterd.supervisor.supervisor import Supervisor
from tests.support.settings import supervisor_settings

pytestmark = pytest.mark.engine_independent

NOW = 100.0


def step(supervisor: Supervisor, *several: events.Event, now: float = NOW) -> list[actions.Action]:
    return [action for event in several for action in supervisor.step(event, now)]


def retires(done: list[actions.Action]) -> list[tuple[int, int | None, bool]]:
    return [(each.serial, each.successor, each.linger) for each in done if isinstance(each, actions.Retire)]


def in_a_rollout(preload: Preload) -> tuple[Supervisor, list[tuple[int, int | None, bool]]]:
    """A rollout of two workers that has replaced the first one, which was to be told so. Returns that order as well."""
    supervisor = Supervisor()
    settings = supervisor_settings(2, preload=preload, settle=1000.0, drain=50.0)
    step(supervisor, events.Start(settings), events.TemplateLoaded(1))
    coming = list(supervisor.cluster.table.workers)
    for serial in coming:
        step(supervisor, events.WorkerHello(serial, 100 + serial), events.WorkerReady(serial))
    step(supervisor, events.ReloadAsked(), events.ConfigurationRead(settings))
    template = supervisor.cluster.last_serial
    step(supervisor, events.TemplateLoaded(template))
    (successor,) = supervisor.cluster.table.in_state(WorkerState.FORKING)
    step(supervisor, events.WorkerHello(successor.serial, 100 + successor.serial))
    return supervisor, retires(step(supervisor, events.WorkerReady(successor.serial)))


@pytest.mark.parametrize(("preload", "lingers"), [(Preload.ALWAYS, False), (Preload.NEVER, True)])
def test_it_is_told_again_after_a_pause(preload: Preload, lingers: bool) -> None:
    """Not at once: the descriptor that was missing would still be missing."""
    supervisor, (order,) = in_a_rollout(preload)
    assert order[2] == lingers
    assert retires(step(supervisor, events.RetireFailed(order[0]))) == []
    assert supervisor.wake_at == NOW + RETIRE_AGAIN_SECONDS
    assert retires(step(supervisor, events.Tick(), now=NOW + RETIRE_AGAIN_SECONDS)) == [order]
    assert retires(step(supervisor, events.Tick(), now=NOW + 3 * RETIRE_AGAIN_SECONDS)) == []


def test_a_master_that_dies_in_the_pause_leaves_that_to_the_next_one() -> None:
    supervisor, (order,) = in_a_rollout(Preload.ALWAYS)
    step(supervisor, events.RetireFailed(order[0]))
    follower = restore(json.loads(json.dumps(snapshot(supervisor.cluster))))
    assert retires(step(follower, events.Tick())) == []
    assert follower.wake_at == NOW + RETIRE_AGAIN_SECONDS
    assert retires(step(follower, events.Tick(), now=NOW + RETIRE_AGAIN_SECONDS)) == [order]


@pytest.mark.parametrize("preload", [Preload.ALWAYS, Preload.NEVER])
def test_one_that_has_lost_its_successor_is_told_again_at_once(preload: Preload) -> None:
    supervisor, (order,) = in_a_rollout(preload)
    assert retires(step(supervisor, events.SuccessorLost(order[0]))) == [order]


def test_successors_that_refuse_at_once_are_not_named_without_a_pause() -> None:
    supervisor, (order,) = in_a_rollout(Preload.ALWAYS)
    step(supervisor, events.SuccessorLost(order[0]))
    assert retires(step(supervisor, events.SuccessorLost(order[0]), now=NOW + 0.1)) == []
    assert supervisor.wake_at == NOW + RETIRE_AGAIN_SECONDS
    assert retires(step(supervisor, events.Tick(), now=NOW + RETIRE_AGAIN_SECONDS)) == [order]


def test_a_stop_in_the_pause_tells_it_at_once_and_for_good() -> None:
    supervisor, (order,) = in_a_rollout(Preload.ALWAYS)
    step(supervisor, events.RetireFailed(order[0]))
    told = retires(step(supervisor, events.StopAsked()))
    assert (order[0], None, False) in told
    step(supervisor, events.RetireFailed(order[0]))
    assert retires(step(supervisor, events.Tick(), now=NOW + 2 * RETIRE_AGAIN_SECONDS)) == []
    assert supervisor.cluster.table.workers[order[0]].end is EndReason.STOP

"""A master that is killed between any two actions leaves a state with which the next one keeps every invariant."""

from collections.abc import Callable

import pytest

from clusterd.supervisor import actions, events, succession
from clusterd.supervisor.model.cluster import ClusterState
from clusterd.supervisor.model.rotation import Rotation
from clusterd.supervisor.model.states import EndReason, WorkerState
from clusterd.supervisor.model.table import Worker
from clusterd.supervisor.snapshot import SnapshotError, pending_in, snapshot
from clusterd.supervisor.succession import Beginning, Found, begin
from tests.support import mortal_world
from tests.support.mortal_world import MortalWorld
from tests.support.supervisor_world import Violation

pytestmark = pytest.mark.engine_independent

SCHEDULES = 2000
PARTS = 4
SCHEDULES_TO_FIND_A_FAULT = 300


@pytest.mark.parametrize("part", range(PARTS))
def test_every_schedule_keeps_every_invariant_whenever_the_master_is_killed(part: int) -> None:
    each, killed = SCHEDULES // PARTS, 0
    for seed in range(part * each, (part + 1) * each):
        world = MortalWorld(seed)
        world.run()
        killed += world.killed
    assert killed > each


def forget_what_was_pending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mortal_world, "pending_in", lambda _: [])


def miss_the_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(succession, "_deaths", lambda *_: [])


def start_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(succession, "_starts", lambda *_: [])


@pytest.mark.parametrize("fault", [forget_what_was_pending, miss_the_dead, start_nothing_again])
def test_a_fault_in_the_succession_is_found(
    fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch)
    with pytest.raises(Violation):
        for seed in range(SCHEDULES_TO_FIND_A_FAULT):
            MortalWorld(seed).run()


@pytest.mark.parametrize(
    ("state", "again"),
    [
        (WorkerState.READY, Beginning([actions.Serve(1), actions.SetKeepAlive(1, is_on=False)], [])),
        (WorkerState.DRAINING, Beginning([], [events.SuccessorLost(1)])),
        (WorkerState.RETIRED, Beginning([actions.SetKeepAlive(1, is_on=False)], [events.SuccessorLost(1)])),
    ],
)
def test_an_order_that_was_not_sent_is_given_again(state: WorkerState, again: Beginning) -> None:
    cluster = ClusterState(rotation=Rotation.OUT)
    cluster.table.workers[1] = Worker(1, 1, 1, 1, since=0.0, deadline=0.0, state=state)
    alive = frozenset({1})
    assert begin(cluster, [], Found(alive, alive)) == Beginning([], [])
    assert begin(cluster, [], Found(alive, alive, unsent=alive)) == again


def test_pending_actions_come_back_as_they_were() -> None:
    pending: list[actions.Action] = [
        actions.Retire(3, None, 10.0, 5.0, linger=True),
        actions.Kill(4, EndReason.HANG, "hung"),
        actions.Announce(actions.Announcement.READY, 1),
        actions.ReadConfiguration(),
    ]
    assert pending_in(snapshot(ClusterState(), pending)) == pending


@pytest.mark.parametrize("damaged", [[["Kll", {}]], [["Kill", {}]], [7], 7])
def test_damaged_pending_actions_are_refused_in_one_line(damaged: object) -> None:
    with pytest.raises(SnapshotError, match=r"^the actions that were pending cannot be read: [^\n]+$"):
        pending_in({**snapshot(ClusterState()), "pending": damaged})

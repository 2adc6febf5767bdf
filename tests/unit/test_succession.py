"""A master that is killed between any two actions leaves a state with which the next one keeps every invariant."""

from collections.abc import Callable

import pytest

from clusterd.supervisor import actions, events, succession
from clusterd.supervisor.model.cluster import ClusterState, Phase
from clusterd.supervisor.model.rotation import Rotation
from clusterd.supervisor.model.states import EndReason, TemplateState, WorkerState
from clusterd.supervisor.model.table import Generation, Rollout, RolloutPhase, Template, Worker
from clusterd.supervisor.snapshot import SnapshotError, pending_in, snapshot
from clusterd.supervisor.succession import Beginning, Found, begin
from tests.support import mortal_world
from tests.support.mortal_world import MortalWorld
from tests.support.settings import supervisor_settings
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


def read_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(succession, "_is_reading", lambda _: False)


def miss_ready_spares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(succession, "_ready_spares", lambda *_: [])


@pytest.mark.parametrize(
    "fault", [forget_what_was_pending, miss_the_dead, start_nothing_again, read_nothing_again, miss_ready_spares]
)
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
    assert begin(cluster, [], Found(alive, alive), 0.0) == Beginning([], [])
    assert begin(cluster, [], Found(alive, alive, unsent=alive), 0.0) == again


def stopping(now: float) -> tuple[ClusterState, actions.Action]:
    """A service whose only worker drains for the stop, until 10. Returns also the order that it was given then."""
    cluster = ClusterState(phase=Phase.STOPPING, now=now)
    cluster.table.generations[1] = Generation(1, supervisor_settings(1, drain=10.0, drain_idle=5.0), preloaded=True)
    cluster.table.workers[1] = Worker(1, 1, 1, 1, since=0.0, deadline=0.0, state=WorkerState.READY)
    cluster.retire(cluster.table.workers[1], None, EndReason.STOP)
    return cluster, cluster.actions[0]


def test_an_order_of_the_stop_that_was_not_sent_is_given_again() -> None:
    cluster, _ = stopping(0.0)
    alive = frozenset({1})
    rest = actions.Retire(1, None, seconds=6.0, idle_seconds=5.0, linger=False)
    assert begin(cluster, [], Found(alive, alive), 4.0) == Beginning([], [])
    assert begin(cluster, [], Found(alive, alive, unsent=alive), 4.0) == Beginning([rest], [])


@pytest.mark.parametrize(("now", "seconds"), [(4.0, 6.0), (40.0, 0.0)])
def test_a_drain_does_not_last_longer_because_the_master_has_died(now: float, seconds: float) -> None:
    cluster, order = stopping(0.0)
    alive = frozenset({1})
    rest = actions.Retire(1, None, seconds, idle_seconds=5.0, linger=False)
    for unsent in (frozenset[int](), alive):
        assert begin(cluster, [order], Found(alive, alive, unsent), now).actions == [rest]


def test_a_configuration_that_a_dead_master_has_read_is_read_again() -> None:
    """What it found was still to be decided on."""
    cluster = ClusterState(phase=Phase.RUNNING, rollout=Rollout(1))
    reading = Beginning([actions.ReadConfiguration()], [])
    nothing = frozenset[int]()
    assert begin(cluster, [], Found(nothing, nothing), 0.0) == reading
    assert begin(cluster, [actions.ReadConfiguration()], Found(nothing, nothing), 0.0) == reading
    cluster.rollout = Rollout(1, RolloutPhase.TEMPLATE)
    assert begin(cluster, [], Found(nothing, nothing), 0.0) == Beginning([], [])


def test_a_spare_that_has_said_hello_to_a_dead_master_is_ready() -> None:
    cluster = ClusterState()
    cluster.table.templates[1] = Template(1, 1, TemplateState.SPARE_COMING, since=0.0)
    known, nothing = frozenset({1}), frozenset[int]()
    assert begin(cluster, [], Found(known, known), 0.0) == Beginning([], [events.SpareReady(1)])
    assert begin(cluster, [], Found(known, nothing), 0.0) == Beginning([], [events.TemplateGone(1, succession.GONE)])


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

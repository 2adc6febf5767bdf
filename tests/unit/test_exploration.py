"""Random schedules of a simulated cluster keep every invariant, and would notice if one did not hold."""

from collections.abc import Callable

import pytest

from clusterd.supervisor import supervisor
from clusterd.supervisor.decisions import failures, first_start, rollout, scaling, slots, templates, workers
from clusterd.supervisor.model.backoff import Backoff
from clusterd.supervisor.model.cluster import ClusterState, Phase
from clusterd.supervisor.model.settings import Settings
from clusterd.supervisor.model.states import EndReason
from clusterd.supervisor.model.table import Worker
from tests.support.supervisor_world import Violation, World

pytestmark = pytest.mark.engine_independent

SCHEDULES = 20_000
PARTS = 8
SCHEDULES_TO_FIND_A_FAULT = 600


@pytest.mark.parametrize("part", range(PARTS))
def test_every_schedule_keeps_every_invariant(part: int) -> None:
    each = SCHEDULES // PARTS
    for seed in range(part * each, (part + 1) * each):
        World(seed).run()


def same_events_same_actions(seed: int) -> list[str]:
    world = World(seed)
    world.run()
    return world.history


def test_the_same_events_give_the_same_actions() -> None:
    assert same_events_same_actions(7) == same_events_same_actions(7)


def drain_before_the_successor_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    fork = ClusterState.fork

    def fork_and_drain(cluster: ClusterState, slot: int, template: object) -> None:
        for worker in cluster.table.in_slot(slot):
            if worker.state.value == "ready":
                cluster.retire(worker, None, EndReason.ROLLOUT)
        fork(cluster, slot, template)  # type: ignore[arg-type]

    monkeypatch.setattr(ClusterState, "fork", fork_and_drain)


def let_failures_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def ignore(cluster: ClusterState, worker: Worker, what: str, *, permanent: bool = False) -> None:
        pass

    monkeypatch.setattr(workers, "record_failure", ignore)
    monkeypatch.setattr(failures, "record_failure", ignore)


def forget_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "enforce_deadlines", lambda cluster: [])


def leave_spares_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "_first", lambda cluster, generation, state: None)


def reuse_generations(monkeypatch: pytest.MonkeyPatch) -> None:
    create = rollout.new_generation

    def from_one(cluster: ClusterState, settings: object) -> object:
        cluster.last_generation = 0
        return create(cluster, settings)  # type: ignore[arg-type]

    monkeypatch.setattr(rollout, "new_generation", from_one)


def keep_forking_while_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "continue_stop", slots.tend_slots)


def start_again_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_start, "pause_after", lambda failures: 0.0)


def never_resume_the_retired(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_may_be_wanted_back", lambda cluster: True)


def hold_back_what_had_been_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    record = failures.record_failure

    def with_backoff(cluster: ClusterState, worker: Worker, what: str, *, permanent: bool = False) -> None:
        record(cluster, worker, what)
        backoff = cluster.table.backoffs.get(worker.slot, Backoff(failures=1))
        cluster.table.backoffs[worker.slot] = backoff.after_failure(cluster.now, served=0.0)

    monkeypatch.setattr(workers, "record_failure", with_backoff)
    monkeypatch.setattr(failures, "record_failure", with_backoff)


def space_restarts_too_far(monkeypatch: pytest.MonkeyPatch) -> None:
    at = slots.retry_at
    monkeypatch.setattr(slots, "retry_at", lambda cluster, slot: at(cluster, slot) + 1.0)


def forget_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings, "within", lambda settings, workers: workers)


def shrink_while_workers_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "may_shrink", lambda cluster: True)


def undo_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "is_deciding", lambda cluster: cluster.phase is Phase.RUNNING)


def scale_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "after_rollout", lambda cluster, before: None)


@pytest.mark.parametrize(
    "fault",
    [
        drain_before_the_successor_is_ready,
        let_failures_pass,
        forget_deadlines,
        leave_spares_idle,
        reuse_generations,
        keep_forking_while_stopping,
        never_resume_the_retired,
        start_again_without_a_pause,
        hold_back_what_had_been_ready,
        space_restarts_too_far,
        forget_the_range,
        shrink_while_workers_are_replaced,
        undo_orders,
        scale_without_a_word,
    ],
    ids=lambda fault: fault.__name__,
)
def test_a_seeded_fault_is_found(fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    with pytest.raises(Violation):
        for seed in range(SCHEDULES_TO_FIND_A_FAULT):
            World(seed).run()

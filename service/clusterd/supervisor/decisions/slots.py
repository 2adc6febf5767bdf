"""Keep one worker of the right generation in every slot: fork missing workers, replace old ones, end surplus ones."""

from clusterd.supervisor.model.backoff import Backoff
from clusterd.supervisor.model.cluster import ClusterState
from clusterd.supervisor.model.states import COMING, EndReason, WorkerState
from clusterd.supervisor.model.table import RolloutPhase, Template, Worker

RETIRE_AGAIN_SECONDS = 1.0
"""After how long a worker that could not be told to leave, or has lost two successors, is told again."""


def tend_slots(cluster: ClusterState) -> None:
    """Take the next step for every slot: fork, replace, or end workers."""
    _forget_filled(cluster)
    for slot in cluster.slots():
        _tend(cluster, slot)
    _shed_surplus(cluster)
    _find_successors(cluster)


def _tend(cluster: ClusterState, slot: int) -> None:
    goal = cluster.goal(slot)
    heir = cluster.table.heir(slot, goal) or _return_from_retirement(cluster, slot, goal)
    if heir is None:
        template = cluster.table.forkable(goal)
        if template is not None and cluster.due(retry_at(cluster, slot)):
            _fork(cluster, slot, template)
    elif heir.state is WorkerState.READY:
        for other in cluster.table.in_slot(slot):
            if other is heir:
                continue
            if other.state is WorkerState.READY and cluster.can_spare_one():
                _replace(cluster, other, heir)
            elif other.state is WorkerState.RETIRED and not _may_be_wanted_back(cluster):
                cluster.retire(other, heir, EndReason.ROLLOUT)


def retry_at(cluster: ClusterState, slot: int) -> float:
    """When an empty slot may be forked again, on the clock of `step`. A time that is not after now means at once."""
    table = cluster.table
    not_before = table.backoffs.get(slot, Backoff()).not_before
    if slot not in table.fallen:
        return not_before
    free_at = table.budget.free_at(cluster.restart_limit(), cluster.now, table.fallen.index(slot))
    return max(not_before, free_at)


def _fork(cluster: ClusterState, slot: int, template: Template) -> None:
    table = cluster.table
    if slot in table.fallen:
        table.fallen.remove(slot)
        table.budget = table.budget.after_restart(cluster.restart_limit(), cluster.now)
    cluster.fork(slot, template)


def _forget_filled(cluster: ClusterState) -> None:
    """Drop the slots that have a worker again, or are gone, from the queue for the restart budget."""
    table, slots = cluster.table, cluster.slots()
    table.fallen = [slot for slot in table.fallen if slot in slots and table.heir(slot, cluster.goal(slot)) is None]


def _replace(cluster: ClusterState, worker: Worker, heir: Worker) -> None:
    """Retire `worker`, which hands over its connections to `heir`."""
    if worker.recycle is not None and worker.generation == heir.generation:
        worker.detail = worker.detail or worker.recycle_note
        cluster.retire(worker, heir, worker.recycle)
        return
    withdrawn = worker.generation > heir.generation
    # Without a preloaded template, no worker of the old generation can be forked once its code is gone from disk. Its
    # workers stay until the rollout is over, so that they can return to their slots.
    keep = _may_be_wanted_back(cluster) and not cluster.table.generations[worker.generation].preloaded
    cluster.retire(
        worker,
        heir,
        EndReason.WITHDRAWN if withdrawn else EndReason.ROLLOUT,
        linger=keep and not withdrawn,
    )


def _may_be_wanted_back(cluster: ClusterState) -> bool:
    return cluster.rollout is not None and cluster.rollout.phase is RolloutPhase.REPLACING


def _return_from_retirement(cluster: ClusterState, slot: int, generation: int) -> Worker | None:
    for worker in cluster.table.in_slot(slot):
        if worker.state is WorkerState.RETIRED and worker.generation == generation:
            cluster.serve(worker)
            return worker
    return None


def _shed_surplus(cluster: ClusterState) -> None:
    """End the workers in slots that no longer exist, once enough others are ready. They hand over their connections."""
    slots = cluster.slots()
    for worker in list(cluster.table.workers.values()):
        if worker.slot in slots:
            continue
        if worker.state in COMING:
            cluster.kill(worker, EndReason.SCALE)
        elif worker.state is WorkerState.RETIRED or (worker.state is WorkerState.READY and cluster.can_spare_one()):
            cluster.retire(worker, successor_of(cluster, worker), EndReason.SCALE)


def _find_successors(cluster: ClusterState) -> None:
    """Assign another successor to each leaving worker that has lost its own, as soon as one is ready."""
    for worker in cluster.table.in_state(WorkerState.RETIRED, WorkerState.DRAINING):
        if not worker.needs_successor or worker.end is None or not cluster.due(worker.retire_not_before):
            continue
        successor = successor_of(cluster, worker)
        if successor is not None:
            cluster.retire(worker, successor, worker.end, linger=worker.state is WorkerState.RETIRED)
            # The next one not at once: a successor that has no descriptors refuses at once, too.
            worker.retire_not_before = cluster.now + RETIRE_AGAIN_SECONDS


def successor_of(cluster: ClusterState, worker: Worker) -> Worker | None:
    """The worker that takes over the connections of `worker`: the one in its slot, or else any other that serves."""
    slots = cluster.slots()
    candidates = [
        other
        for other in cluster.table.in_state(WorkerState.READY)
        if other is not worker and other.slot in slots and other.recycle is None
    ]
    heirs = [other for other in candidates if other.slot == worker.slot]
    return next(iter(heirs or candidates), None)

"""The consequences of a worker's failure: a restart, the withdrawal of a rollout, or another attempt to start."""

from clusterd.supervisor.decisions import first_start, restarts, rollout
from clusterd.supervisor.model.backoff import Backoff
from clusterd.supervisor.model.cluster import ClusterState, Phase
from clusterd.supervisor.model.states import EndReason
from clusterd.supervisor.model.table import RolloutPhase, Worker


def fail(cluster: ClusterState, worker: Worker, reason: EndReason, what: str, *, permanent: bool = False) -> None:
    """Kill `worker` because it failed. `permanent` means that its successor would fail in the same way."""
    cluster.kill(worker, reason, what)
    record_failure(cluster, worker, what, permanent=permanent)


def record_failure(cluster: ClusterState, worker: Worker, what: str, *, permanent: bool = False) -> None:
    """Record the failure of `worker`. Called once, as soon as the failure is known, not when the process is reaped."""
    backoff = cluster.table.backoffs.get(worker.slot, Backoff())
    if worker.ready_at is None or cluster.phase is Phase.STARTING:
        served = 0.0 if worker.ready_at is None else cluster.now - worker.ready_at
        backoff = cluster.table.backoffs[worker.slot] = backoff.after_failure(cluster.now, served, what)
    elif worker.slot not in cluster.table.fallen:
        cluster.table.fallen.append(worker.slot)
    if worker.ready_at is None:
        restarts.fail(cluster, worker.slot, f"its successor failed, so it serves on: {what}")
    active = cluster.rollout
    if active is not None and active.generation == worker.generation:
        if active.phase is RolloutPhase.REPLACING:
            rollout.withdraw(cluster, f"worker {worker.slot} of generation {worker.generation}: {what}")
    elif cluster.phase is Phase.STARTING:
        reason = f"worker {worker.slot} failed: {what}"
        first_start.failed(cluster, reason, permanent=permanent, retry_at=backoff.not_before)

"""What follows when a worker speaks against its generation: a restart, withdrawal, or giving up the start."""

from clusterd.supervisor import restarts, rollout
from clusterd.supervisor.backoff import Backoff
from clusterd.supervisor.cluster import Cluster, Phase
from clusterd.supervisor.states import EndReason
from clusterd.supervisor.stopping import ExitStatus, stop
from clusterd.supervisor.table import RolloutPhase, Worker

START_ATTEMPTS = 3
"""How often a worker of the first generation may fail before clusterd gives up and says why."""


def fail(cluster: Cluster, worker: Worker, reason: EndReason, what: str) -> None:
    """Kill `worker` for a failure of its own."""
    cluster.kill(worker, reason, what)
    record_failure(cluster, worker, what)


def record_failure(cluster: Cluster, worker: Worker, what: str) -> None:
    """Take in that `worker` failed: once, as soon as it is known and not when its process is gone."""
    backoff = cluster.table.backoffs.get(worker.slot, Backoff())
    if worker.ready_at is None or cluster.phase is Phase.STARTING:
        served = 0.0 if worker.ready_at is None else cluster.now - worker.ready_at
        backoff = cluster.table.backoffs[worker.slot] = backoff.after_failure(cluster.now, served)
    elif worker.slot not in cluster.table.fallen:
        cluster.table.fallen.append(worker.slot)
    if worker.ready_at is None:
        restarts.fail(cluster, worker.slot, f"its successor failed, so it serves on: {what}")
    active = cluster.rollout
    if active is not None and active.generation == worker.generation:
        if active.phase is RolloutPhase.REPLACING:
            rollout.withdraw(cluster, f"worker {worker.slot} of generation {worker.generation}: {what}")
    elif cluster.phase is Phase.STARTING and backoff.failures >= START_ATTEMPTS:
        reason = f"worker {worker.slot} failed {START_ATTEMPTS} times: {what}"
        stop(cluster, at_once=False, exit_status=ExitStatus.APPLICATION, reason=reason)

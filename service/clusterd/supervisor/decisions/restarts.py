"""Replace one worker on request. Its successor is started first; if that fails, the worker stays."""

from clusterd.supervisor.actions import RestartEnded
from clusterd.supervisor.model.cluster import ClusterState, Phase
from clusterd.supervisor.model.states import EndReason, WorkerState
from clusterd.supervisor.model.table import Worker


def ask(cluster: ClusterState, number: int, slot: int) -> None:
    """Begin restart `number`, or refuse it. In both cases a RestartEnded follows."""
    refusal = _refusal(cluster, slot)
    if refusal:
        cluster.actions.append(RestartEnded(number, slot, refusal))
        return
    for worker in _serving(cluster, slot):
        worker.recycle = EndReason.RESTART
    cluster.restarts[slot] = number


def _refusal(cluster: ClusterState, slot: int) -> str:
    if cluster.phase is not Phase.RUNNING:
        return f"clusterd is {cluster.phase.value}"
    if cluster.rollout is not None:
        return "a reload is under way, which replaces every worker"
    if slot not in cluster.slots():
        return f"there is no slot {slot}: they are 1 to {cluster.wanted}"
    if slot in cluster.restarts:
        return f"slot {slot} is being restarted already"
    if not _serving(cluster, slot):
        return f"no worker is ready in slot {slot}; it is being started anyway"
    return ""


def _serving(cluster: ClusterState, slot: int) -> list[Worker]:
    return [worker for worker in cluster.table.in_slot(slot) if worker.state is WorkerState.READY]


def conclude(cluster: ClusterState) -> None:
    """End the restarts whose successor is the only worker that serves in the slot."""
    for slot in list(cluster.restarts):
        serving = _serving(cluster, slot)
        if slot not in cluster.slots():
            fail(cluster, slot, "fewer workers are wanted now")
        elif len(serving) == 1 and serving[0].recycle is None:
            cluster.actions.append(RestartEnded(cluster.restarts.pop(slot), slot, None))


def fail(cluster: ClusterState, slot: int, why: str) -> None:
    """End the restart of `slot` with the failure `why`. The worker in the slot goes on serving."""
    number = cluster.restarts.pop(slot, None)
    if number is None:
        return
    for worker in _serving(cluster, slot):
        if worker.recycle is EndReason.RESTART:
            worker.recycle = None
    cluster.actions.append(RestartEnded(number, slot, why))


def fail_all(cluster: ClusterState, why: str) -> None:
    """End every restart with the failure `why`."""
    for slot in list(cluster.restarts):
        fail(cluster, slot, why)

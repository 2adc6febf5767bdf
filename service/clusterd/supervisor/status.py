"""The status line of the service, which `systemctl status` shows."""

from collections.abc import Callable

from clusterd.records import dataclass
from clusterd.supervisor.decisions.slots import retry_at
from clusterd.supervisor.model.backoff import Backoff
from clusterd.supervisor.model.cluster import ClusterState, Phase
from clusterd.supervisor.model.rotation import Rotation
from clusterd.supervisor.model.states import COMING, WorkerState
from clusterd.supervisor.model.table import Rollout, RolloutPhase

REASON_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class WaitingSlot:
    """An empty slot whose next worker has to wait. `retry_at` is on the clock of `step`."""

    slot: int
    generation: int
    failures: int
    """How often a worker has failed in it before it was ready."""
    reason: str
    retry_at: float


def waiting_slots(cluster: ClusterState) -> list[WaitingSlot]:
    """The slots that are empty, because their workers keep failing."""
    waiting: list[WaitingSlot] = []
    if cluster.phase not in (Phase.STARTING, Phase.RUNNING):
        return waiting
    for slot in cluster.slots():
        goal, at = cluster.goal(slot), retry_at(cluster, slot)
        if cluster.due(at) or cluster.table.heir(slot, goal) is not None:
            continue
        backoff = cluster.table.backoffs.get(slot, Backoff())
        reason = _short(backoff.reason) or "its workers have died too often in a row"
        waiting.append(WaitingSlot(slot, goal, backoff.failures, reason, at))
    return waiting


def status_line(cluster: ClusterState, clock_time: Callable[[float], str]) -> str:
    """The state of the service in words. `clock_time` formats a monotonic time as the time of day."""
    draining = len(cluster.table.in_state(WorkerState.DRAINING))
    parts = [_now_doing(cluster, clock_time)]
    if cluster.rotation is not Rotation.IN and cluster.phase in (Phase.STARTING, Phase.RUNNING):
        parts.append(_rotation(cluster, clock_time))
    if draining and cluster.phase is Phase.RUNNING:
        parts.append(f"{draining} draining")
    if cluster.phase is Phase.RUNNING:
        parts += _not_starting(cluster, clock_time)
    if cluster.phase is Phase.RUNNING and cluster.rollout is None:
        # The outcome also helps an operator whose `systemctl reload` lost its connection to systemd, for example
        # during `systemctl daemon-reexec`.
        if (failed := cluster.failed_reload) is not None:
            parts.append(f"reload FAILED at {clock_time(failed.at)}: {_short(failed.reason)}")
        elif cluster.reloaded_at is not None:
            parts.append(f"reloaded at {clock_time(cluster.reloaded_at)}")
    return "; ".join(parts)


def progress_line(cluster: ClusterState, clock_time: Callable[[float], str]) -> str:
    """The status line, with the state of each slot during a rollout, for a client that waits for it."""
    line, rollout = status_line(cluster, clock_time), cluster.rollout
    if rollout is None or rollout.phase is not RolloutPhase.REPLACING:
        return line
    slots = ", ".join(f"{slot} {state}" for slot, state in replaced_slots(cluster, rollout))
    return f"{line} ({slots})"


def replaced_slots(cluster: ClusterState, rollout: Rollout) -> list[tuple[int, str]]:
    """The slots after a rollout that replaces workers: each with the state of its new worker, or `waits`."""
    states = {
        worker.slot: worker.state.value
        for worker in cluster.table.workers.values()
        if worker.generation == rollout.generation
    }
    return [(slot, states.get(slot, "waits")) for slot in range(1, rollout.workers + 1)]


def ready_workers(cluster: ClusterState) -> int:
    """The number of workers that accept connections."""
    return len(cluster.table.in_state(WorkerState.READY))


def _rotation(cluster: ClusterState, clock_time: Callable[[float], str]) -> str:
    if cluster.rotation is Rotation.OUT:
        return "out of the rotation of load balancers" + (" (drained)" if cluster.is_drained else "")
    what = "stops" if cluster.stops_when_out else "connections are closed"
    return f"leaving the rotation of load balancers, {what} at {clock_time(cluster.out_at)}"


def _now_doing(cluster: ClusterState, clock_time: Callable[[float], str]) -> str:
    ready = ready_workers(cluster)
    match cluster.phase:
        case Phase.STARTING:
            return _starting(cluster, clock_time)
        case Phase.STOPPING:
            draining = len(cluster.table.workers)
            return f"Stopping: {draining} worker{'s' if draining != 1 else ''} left"
        case Phase.FINISHED:
            return f"{'Failed' if cluster.exit_status else 'Stopped'}: {cluster.exit_reason}"
        case Phase.RUNNING:
            pass
    rollout = cluster.rollout
    if rollout is None:
        return f"Serving: {_serving(cluster, ready)}, generation {cluster.serving}"
    if rollout.phase is RolloutPhase.REPLACING:
        new = sum(1 for worker in cluster.table.in_state(WorkerState.READY) if worker.generation == rollout.generation)
        return f"Reloading: generation {rollout.generation}, {new} of {rollout.workers} workers replaced"
    return f"Reloading: {rollout.phase.value}; {ready} workers serve generation {cluster.serving}"


def _serving(cluster: ClusterState, ready: int) -> str:
    """How many workers serve; of a range also what it is, and whether an order holds in its place."""
    wanted, generation = cluster.wanted, cluster.table.generations.get(cluster.serving)
    serving = f"{ready} worker{'s' if ready != 1 else ''}" if ready == wanted else f"{ready} of {wanted} workers"
    if generation is None or not generation.settings.is_elastic:
        return serving
    return f"{serving} ({'asked for, instead of ' if cluster.is_pinned else ''}{generation.settings.range_text})"


def _not_starting(cluster: ClusterState, clock_time: Callable[[float], str]) -> list[str]:
    """The first of the slots whose worker keeps failing before it is ready. The others mostly fail in the same way."""
    for slot, backoff in sorted(cluster.table.backoffs.items()):
        if backoff.failures > 1 and slot in cluster.slots() and cluster.table.heir(slot, cluster.goal(slot)) is None:
            when = clock_time(backoff.not_before)
            return [f"worker {slot} has failed {backoff.failures} times, again at {when}: {_short(backoff.reason)}"]
    return []


def _starting(cluster: ClusterState, clock_time: Callable[[float], str]) -> str:
    first, table = cluster.first_start, cluster.table
    if table.has_template(cluster.serving):
        doing = f"{ready_workers(cluster)} of {cluster.wanted} workers ready"
        if table.forkable(cluster.serving) is None:
            doing = "importing the application"
        elif table.backoffs and not table.in_state(*COMING):
            doing += f", waiting until {clock_time(min(each.not_before for each in table.backoffs.values()))}"
    else:
        doing = f"waiting until {clock_time(first.retry_at)}"
    if not first.failures:
        return f"Starting: {doing}"
    return f"Starting: {doing}, attempt {first.failures + 1}; the last one failed: {_short(first.reason)}"


def _short(reason: str) -> str:
    """The reason in one line. Of a long one, the beginning and the end: that is the place in the application."""
    text = " ".join(reason.split())
    if len(text) <= REASON_CHARACTERS:
        return text
    return f"{text[: REASON_CHARACTERS // 2]} ... {text[-REASON_CHARACTERS // 2 :]}"

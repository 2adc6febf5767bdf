"""The rollout: replace the worker of one slot first, then the others, or withdraw the new generation."""

from clusterd.config.model import Preload
from clusterd.supervisor.actions import (
    ReadConfiguration,
    RolloutEnded,
    RolloutStarted,
)
from clusterd.supervisor.decisions import restarts, scaling
from clusterd.supervisor.model.cluster import ClusterState, FailedReload, Phase
from clusterd.supervisor.model.restart_budget import RestartBudget
from clusterd.supervisor.model.settings import Settings
from clusterd.supervisor.model.states import EndReason, WorkerState
from clusterd.supervisor.model.table import Generation, Rollout, RolloutPhase, Worker

STOPPING = "clusterd was asked to stop"


def ask(cluster: ClusterState) -> None:
    """Note a reload request. All requests during a rollout result in one further rollout after it."""
    if cluster.phase in (Phase.STARTING, Phase.RUNNING):
        cluster.reload_pending = True
    else:
        cluster.actions.append(RolloutEnded(cluster.rollouts + 1, cluster.serving, STOPPING))


def begin_if_asked(cluster: ClusterState) -> None:
    """Start a rollout if a reload was requested and no rollout is under way."""
    if not cluster.reload_pending or cluster.rollout is not None or cluster.phase is not Phase.RUNNING:
        return
    cluster.reload_pending = False
    cluster.rollouts += 1
    cluster.rollout = Rollout(cluster.rollouts)
    restarts.fail_all(cluster, "a reload came before it was done, which replaces every worker")
    cluster.actions += [
        RolloutStarted(cluster.rollouts),
        ReadConfiguration(),
    ]


def answer_by_start(cluster: ClusterState) -> None:
    """Report the pending reload as done: the start has read the configuration after the request."""
    cluster.reload_pending = False
    cluster.rollouts += 1
    cluster.actions += [RolloutStarted(cluster.rollouts), RolloutEnded(cluster.rollouts, cluster.serving, None)]


def configuration_read(cluster: ClusterState, settings: Settings) -> None:
    """Import the application for the next generation."""
    rollout = cluster.rollout
    if rollout is None or rollout.phase is not RolloutPhase.CONFIGURATION:
        return
    generation = new_generation(cluster, settings)
    cluster.start_template(generation)
    rollout.generation = generation.number
    rollout.workers = settings.within(cluster.wanted)
    rollout.phase = RolloutPhase.TEMPLATE


def new_generation(cluster: ClusterState, settings: Settings) -> Generation:
    """The next generation, which has no template yet."""
    cluster.last_generation += 1
    generation = Generation(cluster.last_generation, settings, preloaded=settings.preload is not Preload.NEVER)
    cluster.table.generations[generation.number] = generation
    return generation


def advance(cluster: ClusterState) -> None:
    """Take the next step of the rollout, if it is possible now."""
    rollout = cluster.rollout
    if rollout is None:
        return
    if rollout.phase is RolloutPhase.TEMPLATE and cluster.table.forkable(rollout.generation):
        rollout.phase = RolloutPhase.REPLACING
        _open(cluster, rollout, [1])
    elif rollout.phase is RolloutPhase.REPLACING:
        _replace_more(cluster, rollout)
    elif rollout.phase is RolloutPhase.WITHDRAWING:
        _conclude_withdrawal(cluster, rollout)


def _replace_more(cluster: ClusterState, rollout: Rollout) -> None:
    """Open further slots, `surge` at a time, once the first successor has settled."""
    table = cluster.table
    if not table.has_template(rollout.generation):
        withdraw(cluster, "the new generation's template and its spare died")
        return
    settings = table.generations[rollout.generation].settings
    settled = [slot for slot in rollout.opened if _settled(cluster, slot, settings.settle)]
    under_way = sum(1 for slot in rollout.opened if _ready(cluster, slot) is None)
    if rollout.opened[0] not in settled:
        return
    remaining = [slot for slot in range(1, rollout.workers + 1) if slot not in rollout.opened]
    room = max(0, settings.surge - under_way)
    _open(cluster, rollout, remaining[:room])
    if not remaining and len(settled) == len(rollout.opened):
        _succeed(cluster, rollout)


def _open(cluster: ClusterState, rollout: Rollout, slots: list[int]) -> None:
    """Assign `slots` to the new generation. Failures of the old generation in them do not delay it."""
    rollout.opened += slots
    for slot in slots:
        cluster.table.forgive(slot)


def _ready(cluster: ClusterState, slot: int) -> Worker | None:
    heir = cluster.table.heir(slot, cluster.goal(slot))
    return heir if heir is not None and heir.state is WorkerState.READY else None


def _settled(cluster: ClusterState, slot: int, settle: float) -> bool:
    worker = _ready(cluster, slot)
    return worker is not None and worker.ready_at is not None and cluster.due(worker.ready_at + settle)


def _succeed(cluster: ClusterState, rollout: Rollout) -> None:
    before, cluster.serving = cluster.wanted, rollout.generation
    cluster.wanted, cluster.is_pinned = rollout.workers, rollout.is_pinned
    scaling.after_rollout(cluster, before)
    cluster.failed_reload, cluster.reloaded_at = None, cluster.now
    # Failures before the rollout do not count against the new generation.
    cluster.table.backoffs.clear()
    cluster.table.fallen.clear()
    cluster.table.budget = RestartBudget()
    _end(cluster, rollout)


def withdraw(cluster: ClusterState, reason: str) -> None:
    """Withdraw the new generation: return its slots to the old one, and kill its booting workers."""
    rollout = cluster.rollout
    if rollout is None or rollout.phase is RolloutPhase.WITHDRAWING:
        return
    rollout.failure = reason
    replaced = bool(rollout.opened)
    rollout.opened = []
    rollout.phase = RolloutPhase.WITHDRAWING
    if rollout.generation:
        cluster.kill_coming(rollout.generation, EndReason.WITHDRAWN)
    # Failures of the new generation must not delay the boots of the old one.
    cluster.table.backoffs.clear()
    cluster.table.fallen.clear()
    rollout.deadline = cluster.now + cluster.table.generations[cluster.serving].settings.boot_timeout
    if not replaced:
        _conclude_withdrawal(cluster, rollout)


def _conclude_withdrawal(cluster: ClusterState, rollout: Rollout) -> None:
    """End the withdrawal when every slot is served by the old generation again."""
    foreign = [
        worker for worker in cluster.table.in_state(WorkerState.READY) if worker.generation == rollout.generation
    ]
    missing = [slot for slot in cluster.slots() if _ready(cluster, slot) is None]
    table = cluster.table
    if missing and not table.has_template(cluster.serving):
        # No template can fill the slot. The workers of the new generation in it serve on until the next import.
        missing, foreign = [], []
    # A slot that was empty before the rollout has its own backoff. The deadline limits the wait for it to one boot.
    if (not foreign and not missing) or cluster.due(rollout.deadline):
        cluster.failed_reload = FailedReload(rollout.number, rollout.failure, cluster.now)
        cluster.reloaded_at = None
        _end(cluster, rollout)


def interrupt(cluster: ClusterState) -> None:
    """End the rollout, and the pending one after it, with a failure, because clusterd stops."""
    rollout = cluster.rollout
    if rollout is not None:
        cluster.actions.append(RolloutEnded(rollout.number, cluster.serving, rollout.failure or STOPPING))
        cluster.rollout = None
    if cluster.reload_pending:
        cluster.reload_pending = False
        cluster.rollouts += 1
        cluster.actions.append(RolloutEnded(cluster.rollouts, cluster.serving, STOPPING))


def _end(cluster: ClusterState, rollout: Rollout) -> None:
    cluster.rollout = None
    cluster.actions.append(RolloutEnded(rollout.number, cluster.serving, rollout.failure or None))

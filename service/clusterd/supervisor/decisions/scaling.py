"""The number of workers: what an operator or a program asks for, and what clusterd decides between min and max.

An order holds until the next reload, and as long clusterd decides nothing itself.
"""

from collections.abc import Callable

from clusterd.supervisor.actions import Scaled
from clusterd.supervisor.model.cluster import ClusterState, Phase
from clusterd.supervisor.model.load import ScaleCause
from clusterd.supervisor.model.settings import Settings
from clusterd.supervisor.model.states import COMING, WorkerState


def order(cluster: ClusterState, changed: Callable[[int], int], *, may_be_early: bool) -> None:
    """Change the number of workers as asked: the present one, and that of a rollout under way."""
    if not _may_scale(cluster, may_be_early=may_be_early):
        return
    before, cluster.wanted, cluster.is_pinned = cluster.wanted, max(1, changed(cluster.wanted)), True
    if cluster.rollout is not None and cluster.rollout.generation:
        cluster.rollout.workers, cluster.rollout.is_pinned = max(1, changed(cluster.rollout.workers)), True
    settings = _settings(cluster)
    until = "a reload, or `clusterctl scale auto`, lets clusterd decide again"
    reason = f"asked for; {until} ({settings.range_text})" if settings.is_elastic else "asked for"
    _scaled(cluster, before, ScaleCause.ASKED, reason)


def release(cluster: ClusterState) -> None:
    """Return to the number of the configuration, or have clusterd decide between its numbers again."""
    if not _may_scale(cluster, may_be_early=False):
        return
    before, cluster.wanted, cluster.is_pinned = cluster.wanted, _settings(cluster).within(cluster.wanted), False
    rollout, coming = cluster.rollout, _coming_settings(cluster)
    if rollout is not None and coming is not None:
        rollout.workers, rollout.is_pinned = coming.within(rollout.workers), False
    _scaled(cluster, before, ScaleCause.ASKED, f"as the configuration says: {_settings(cluster).range_text}")


def decided(cluster: ClusterState, workers: int, cause: ScaleCause, reason: str) -> None:
    """Change the number as clusterd has decided. The state may be another one since, so it is checked again."""
    if not is_deciding(cluster):
        return
    before, settings = cluster.wanted, _settings(cluster)
    workers = settings.within(workers)
    if workers < before:
        workers = min(before, max(workers, _debugged_slot(cluster)))
    if workers == before or not (may_shrink(cluster) if workers < before else _may_grow(cluster)):
        return
    cluster.wanted = workers
    rollout, coming = cluster.rollout, _coming_settings(cluster)
    if rollout is not None and coming is not None and not rollout.is_pinned:
        rollout.workers = coming.within(max(rollout.workers, workers))
    _scaled(cluster, before, cause, reason)


def is_deciding(cluster: ClusterState) -> bool:
    """Whether clusterd decides how many workers there are now."""
    return cluster.phase is Phase.RUNNING and not cluster.is_pinned and _settings(cluster).is_elastic


def may_shrink(cluster: ClusterState) -> bool:
    """Whether workers may be ended because fewer are enough.

    Not while some are started or replaced: a rollout needs those that serve until its end, and so does a restart.
    """
    if cluster.rollout is not None or cluster.reload_pending or cluster.restarts:
        return False
    ready, failing = cluster.table.in_state(WorkerState.READY), cluster.table.backoffs
    # A slot whose worker cannot start is not waited for: it may be one that is not needed any more.
    return (
        len(ready) >= cluster.wanted - len(failing)
        and all(worker.slot in failing for worker in cluster.table.in_state(*COMING))
        and not any(worker.recycle for worker in ready)
    )


def _may_grow(cluster: ClusterState) -> bool:
    """Whether more workers may be started. Not while one cannot start: more of them would fail in the same way.

    Nor without a template: only a new import could fill the slots, of files that no reload was asked for.
    """
    return not cluster.table.backoffs and cluster.table.has_template(cluster.serving)


def after_rollout(cluster: ClusterState, before: int) -> None:
    """Report that a rollout has changed the number."""
    if cluster.wanted != before:
        _scaled(cluster, before, ScaleCause.RELOAD, f"a reload has set workers to {_settings(cluster).range_text}")


def _may_scale(cluster: ClusterState, *, may_be_early: bool) -> bool:
    return cluster.phase is Phase.RUNNING or (may_be_early and cluster.phase is Phase.STARTING)


def _debugged_slot(cluster: ClusterState) -> int:
    """The last slot in which a debugger listens: its worker may stand at a breakpoint, so it is not ended."""
    return max((worker.slot for worker in cluster.table.workers.values() if worker.is_debugged), default=0)


def _settings(cluster: ClusterState) -> Settings:
    return cluster.table.generations[cluster.serving].settings


def _coming_settings(cluster: ClusterState) -> Settings | None:
    """The settings of a rollout under way. None if they are not read yet, or if nothing is left of it."""
    generation = cluster.table.generations.get(cluster.rollout.generation) if cluster.rollout is not None else None
    return None if generation is None else generation.settings


def _scaled(cluster: ClusterState, before: int, cause: ScaleCause, reason: str) -> None:
    cluster.actions.append(Scaled(before, cluster.wanted, cause, reason, cluster.serving))

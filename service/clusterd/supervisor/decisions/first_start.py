"""The first start: an application that cannot start yet is tried again. If it can never start, clusterd ends.

The process that imports the application tells a failure that may pass (a database that starts later) from one that
cannot (a syntax error): see `app/application.py`.
"""

from dataclasses import replace

from clusterd.supervisor.actions import ReadConfiguration, Severity
from clusterd.supervisor.decisions import rollout
from clusterd.supervisor.decisions.stopping import ExitStatus, stop
from clusterd.supervisor.model.backoff import doubled
from clusterd.supervisor.model.cluster import ClusterState, Phase
from clusterd.supervisor.model.settings import Settings
from clusterd.supervisor.model.states import COMING, EndReason
from clusterd.supervisor.model.table import FirstStart

FIRST_PAUSE = 1.0

GRACE_SECONDS = 4.0
"""The additional time for an attempt that is under way when clusterd would give up: it may succeed, and the start
timeout of the service manager has not expired yet (cli/command.py)."""


def pause_after(failures: int) -> float:
    """Seconds to wait for the next attempt after `failures` failed ones: 1, 2, 4 ... 30."""
    return doubled(FIRST_PAUSE, failures - 1)


def begin(cluster: ClusterState, settings: Settings, first: FirstStart) -> None:
    """Create the first generation. Its import begins at once, or after the pause that follows an earlier failure."""
    cluster.serving = rollout.new_generation(cluster, settings).number
    cluster.wanted = settings.workers
    cluster.first_start = first
    if (seconds := first.retry_at - cluster.now) > 0:
        cluster.note(Severity.WARNING, f"the last start failed, trying again in {seconds:.1f} s: {first.reason}")


def failed(cluster: ClusterState, reason: str, *, permanent: bool, retry_at: float | None = None) -> None:
    """Record a failed attempt: an import, or the boot of a worker, which its slot repeats at `retry_at`."""
    first = cluster.first_start
    failures = first.failures + 1
    first = replace(first, failures=failures, failures_here=first.failures_here + 1, reason=reason)
    if is_import := retry_at is None:
        retry_at = cluster.now + pause_after(failures)
        first = replace(first, retry_at=retry_at)
    cluster.first_start = first
    if permanent:
        stop(cluster, exit_status=ExitStatus.APPLICATION, reason=reason)
    elif _is_too_late(cluster, retry_at):
        _give_up(cluster)
    elif is_import:
        pause = f"{retry_at - cluster.now:g} s"
        cluster.note(Severity.WARNING, f"start attempt {failures} failed, trying again in {pause}: {reason}")


def advance(cluster: ClusterState) -> None:
    """Import the application when it is time, or give up, so that the service manager starts clusterd again."""
    first, table = cluster.first_start, cluster.table
    # The first attempt of a process has the time that its settings allow, because an import may take longer than
    # `give_up_at`.
    if first.failures_here and first.give_up_at is not None and cluster.due(_last_moment(cluster, first.give_up_at)):
        _give_up(cluster)
    elif not first.is_reading and not table.has_template(cluster.serving) and cluster.due(first.retry_at):
        _attempt(cluster)


def hurry(cluster: ClusterState) -> None:
    """Make the next attempt at once, because the operator has asked for a reload."""
    if not cluster.first_start.failures:
        return
    cluster.first_start = replace(cluster.first_start, retry_at=cluster.now)
    cluster.table.backoffs.clear()
    cluster.kill_coming(cluster.serving, EndReason.WITHDRAWN)
    for template in list(cluster.table.templates.values()):
        if template.generation == cluster.serving:
            cluster.kill_template(template)


def configuration_read(cluster: ClusterState, settings: Settings) -> None:
    """Import the application for the next attempt. Each attempt is a generation of its own."""
    cluster.first_start = replace(cluster.first_start, is_reading=False)
    if cluster.phase is not Phase.STARTING:
        return
    before = cluster.table.generations[cluster.serving].settings
    if (settings.workers, settings.most_workers) != (before.workers, before.most_workers):
        # Otherwise keep a number that was requested meanwhile.
        cluster.wanted, cluster.is_pinned = settings.workers, False
    generation = rollout.new_generation(cluster, settings)
    cluster.serving = generation.number
    cluster.start_template(generation)


def configuration_refused(cluster: ClusterState, reason: str) -> None:
    """Record a failed attempt that is not permanent: the operator may be editing the configuration, which was valid."""
    cluster.first_start = replace(cluster.first_start, is_reading=False)
    if cluster.phase is Phase.STARTING:
        failed(cluster, reason, permanent=False)


def _attempt(cluster: ClusterState) -> None:
    """Begin an attempt. All but the first one read the configuration again, because it may have changed."""
    if cluster.first_start.failures:
        pending = cluster.reload_pending
        cluster.first_start = replace(cluster.first_start, is_reading=True, answers_reload=pending)
        cluster.actions.append(ReadConfiguration())
    else:
        cluster.start_template(cluster.table.generations[cluster.serving])


def _last_moment(cluster: ClusterState, give_up_at: float) -> float:
    return give_up_at + GRACE_SECONDS if _is_under_way(cluster) else give_up_at


def _is_under_way(cluster: ClusterState) -> bool:
    """Whether an attempt has begun and may succeed. False during the pause before the next one."""
    table = cluster.table
    if not table.has_template(cluster.serving):
        return cluster.first_start.is_reading
    is_importing = table.forkable(cluster.serving) is None
    return is_importing or not table.backoffs or bool(table.in_state(*COMING))


def _is_too_late(cluster: ClusterState, at: float) -> bool:
    give_up_at = cluster.first_start.give_up_at
    return give_up_at is not None and at >= give_up_at


def _give_up(cluster: ClusterState) -> None:
    first = cluster.first_start
    reason = f"not started after {first.failures} attempts: {first.reason}"
    if _is_under_way(cluster):
        cluster.first_start = replace(first, was_cut=True)
        reason = f"start attempt {first.failures + 1} takes too long; the one before failed: {first.reason}"
    stop(cluster, exit_status=ExitStatus.TEMPORARY, reason=reason)

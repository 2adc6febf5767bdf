"""The first start: an application that cannot start yet is tried again until it can; one that never can ends clusterd.

What may mend by itself (a database that comes up later) is told apart from what cannot (a syntax error) by the process
in which it happened: `app/application.py`.
"""

from dataclasses import replace

from clusterd.supervisor.actions import ReadConfiguration, Severity
from clusterd.supervisor.decisions import rollout
from clusterd.supervisor.decisions.stopping import ExitStatus, stop
from clusterd.supervisor.model.backoff import doubled
from clusterd.supervisor.model.cluster import Cluster, Phase
from clusterd.supervisor.model.settings import Settings
from clusterd.supervisor.model.states import COMING, EndReason
from clusterd.supervisor.model.table import FirstStart

FIRST_PAUSE = 1.0

GRACE_SECONDS = 4.0
"""For an attempt that is under way when it is time to give up: it may be the one that succeeds, and the service manager
has not lost its patience yet (cli/command.py)."""


def pause_after(failures: int) -> float:
    """Seconds between the last of so many failed attempts and the next one: 1, 2, 4 ... 30."""
    return doubled(FIRST_PAUSE, failures - 1)


def begin(cluster: Cluster, settings: Settings, first: FirstStart) -> None:
    """Want a first generation, at once or when the pause is over that follows the attempts of earlier processes."""
    cluster.serving = rollout.new_generation(cluster, settings).number
    cluster.wanted = settings.workers
    cluster.first_start = first
    if (seconds := first.retry_at - cluster.now) > 0:
        cluster.note(Severity.WARNING, f"the last start failed, trying again in {seconds:.1f} s: {first.reason}")


def failed(cluster: Cluster, reason: str, *, permanent: bool, retry_at: float | None = None) -> None:
    """Take in that an attempt failed: an import, or a worker's boot, which its slot repeats at `retry_at`."""
    first = cluster.first_start
    failures = first.failures + 1
    first = replace(first, failures=failures, failures_here=first.failures_here + 1, reason=reason)
    if is_import := retry_at is None:
        retry_at = cluster.now + pause_after(failures)
        first = replace(first, retry_at=retry_at)
    cluster.first_start = first
    if permanent:
        stop(cluster, at_once=False, exit_status=ExitStatus.APPLICATION, reason=reason)
    elif _is_too_late(cluster, retry_at):
        _give_up(cluster)
    elif is_import:
        pause = f"{retry_at - cluster.now:g} s"
        cluster.note(Severity.WARNING, f"start attempt {failures} failed, trying again in {pause}: {reason}")


def advance(cluster: Cluster) -> None:
    """Import the application when it is time to, or leave it to the service manager to start clusterd again."""
    first, table = cluster.first_start, cluster.table
    # The first attempt of a process has the time that the settings give it: an import may take longer than that.
    if first.failures_here and first.give_up_at is not None and cluster.due(_last_moment(cluster, first.give_up_at)):
        _give_up(cluster)
    elif not first.is_reading and not table.has_template(cluster.serving) and cluster.due(first.retry_at):
        _attempt(cluster)


def hurry(cluster: Cluster) -> None:
    """Make the next attempt now, with what is on disk now: the operator has changed something."""
    if not cluster.first_start.failures:
        return
    cluster.first_start = replace(cluster.first_start, retry_at=cluster.now)
    cluster.table.backoffs.clear()
    cluster.kill_coming(cluster.serving, EndReason.WITHDRAWN)
    cluster.end_templates_of(cluster.serving)


def configuration_read(cluster: Cluster, settings: Settings) -> None:
    """Import the application for the next attempt; each is a generation of its own."""
    cluster.first_start = replace(cluster.first_start, is_reading=False)
    if cluster.phase is not Phase.STARTING:
        return
    if settings.workers != cluster.table.generations[cluster.serving].settings.workers:
        cluster.wanted = settings.workers  # else as many as have been asked for meanwhile
    generation = rollout.new_generation(cluster, settings)
    cluster.serving = generation.number
    cluster.start_template(generation)


def configuration_refused(cluster: Cluster, reason: str) -> None:
    """The next attempt has failed: the configuration was good when clusterd began, and may be in the making."""
    cluster.first_start = replace(cluster.first_start, is_reading=False)
    if cluster.phase is Phase.STARTING:
        failed(cluster, reason, permanent=False)


def _attempt(cluster: Cluster) -> None:
    """With the configuration that is on disk now, where it may be another one than when clusterd began."""
    if cluster.first_start.failures:
        pending = cluster.reload_pending
        cluster.first_start = replace(cluster.first_start, is_reading=True, answers_reload=pending)
        cluster.actions.append(ReadConfiguration())
    else:
        cluster.start_template(cluster.table.generations[cluster.serving])


def _last_moment(cluster: Cluster, give_up_at: float) -> float:
    return give_up_at + GRACE_SECONDS if _is_under_way(cluster) else give_up_at


def _is_under_way(cluster: Cluster) -> bool:
    """Whether an attempt has begun and may succeed, and not only the pause before the next one."""
    table = cluster.table
    if not table.has_template(cluster.serving):
        return cluster.first_start.is_reading
    is_importing = table.forkable(cluster.serving) is None
    return is_importing or not table.backoffs or bool(table.in_state(*COMING))


def _is_too_late(cluster: Cluster, at: float) -> bool:
    give_up_at = cluster.first_start.give_up_at
    return give_up_at is not None and at >= give_up_at


def _give_up(cluster: Cluster) -> None:
    first = cluster.first_start
    reason = f"not started after {first.failures} attempts: {first.reason}"
    if _is_under_way(cluster):
        cluster.first_start = replace(first, was_cut=True)
        reason = f"start attempt {first.failures + 1} takes too long; the one before failed: {first.reason}"
    stop(cluster, at_once=False, exit_status=ExitStatus.TEMPORARY, reason=reason)

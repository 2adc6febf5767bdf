"""The way out: drain everything, then finish; nothing is forked any more."""

from enum import IntEnum

from clusterd.supervisor.actions import Announce, Announcement, Finish
from clusterd.supervisor.decisions import restarts, rollout
from clusterd.supervisor.model.cluster import Cluster, Phase
from clusterd.supervisor.model.states import COMING, EndReason, WorkerState


class ExitStatus(IntEnum):
    """How clusterd ends (sysexits.h)."""

    ASKED = 0
    FAILURE = 1
    APPLICATION = 70
    """The application can never start as it is: the unit is left failed, with the reason."""
    TEMPORARY = 75
    """The start has failed for now: the service manager starts clusterd again."""
    CONFIGURATION = 78
    """The configuration is wrong: the unit is left failed, with the reason."""


def stop(
    cluster: Cluster,
    *,
    at_once: bool,
    exit_status: ExitStatus = ExitStatus.ASKED,
    reason: str = "asked to stop",
) -> None:
    """Begin the stop; when one is under way already, end it at once."""
    if cluster.phase is Phase.FINISHED:
        return
    if cluster.phase is Phase.STOPPING:
        cluster.killing = True
        return
    cluster.phase = Phase.STOPPING
    cluster.killing = at_once
    cluster.exit_status = exit_status
    cluster.exit_reason = reason
    cluster.actions.append(Announce(Announcement.STOPPING, cluster.serving))
    rollout.interrupt(cluster)
    restarts.fail_all(cluster, rollout.STOPPING)
    for template in cluster.table.templates.values():
        cluster.end_template(template)
    for worker in list(cluster.table.workers.values()):
        if worker.state in COMING:
            cluster.kill(worker, EndReason.STOP)
        elif worker.state is not WorkerState.ENDING:
            # Those that drain already lose their successors now and get new orders.
            cluster.retire(worker, None, EndReason.STOP)


def continue_stop(cluster: Cluster) -> None:
    """Kill if that is wanted; finish when nothing is left."""
    if cluster.killing:
        for worker in list(cluster.table.workers.values()):
            cluster.kill(worker, EndReason.STOP, "asked to stop at once")
    if not cluster.table.workers and not cluster.table.templates:
        cluster.phase = Phase.FINISHED
        cluster.actions.append(Finish(cluster.exit_status, cluster.exit_reason))

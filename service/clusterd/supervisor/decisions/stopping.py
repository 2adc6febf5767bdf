"""The stop: drain every worker, then finish. Nothing is forked any more."""

from enum import IntEnum

from clusterd.supervisor.actions import Announce, Announcement, Finish
from clusterd.supervisor.decisions import restarts, rollout
from clusterd.supervisor.decisions.templates import end_unused
from clusterd.supervisor.events import Urgency
from clusterd.supervisor.model.cluster import ClusterState, Phase
from clusterd.supervisor.model.states import COMING, EndReason, WorkerState


class ExitStatus(IntEnum):
    """The exit status of clusterd (sysexits.h)."""

    ASKED = 0
    FAILURE = 1
    APPLICATION = 70
    """The application can never start as it is. The unit stays failed, with the reason."""
    TEMPORARY = 75
    """The start has failed for now. The service manager starts clusterd again."""
    CONFIGURATION = 78
    """The configuration is invalid. The unit stays failed, with the reason."""


def stop(
    cluster: ClusterState,
    *,
    urgency: Urgency = Urgency.DRAIN,
    exit_status: ExitStatus = ExitStatus.ASKED,
    reason: str = "asked to stop",
) -> None:
    """Begin the stop. If one is under way already, kill the remaining workers, unless the request is for a drain."""
    if cluster.phase is Phase.FINISHED:
        return
    if cluster.phase is Phase.STOPPING:
        cluster.killing = cluster.killing or urgency is not Urgency.DRAIN
        return
    cluster.phase = Phase.STOPPING
    cluster.killing = urgency is Urgency.AT_ONCE
    cluster.exit_status = exit_status
    cluster.exit_reason = reason
    cluster.actions.append(Announce(Announcement.STOPPING, cluster.serving))
    rollout.interrupt(cluster)
    restarts.fail_all(cluster, rollout.STOPPING)
    for worker in list(cluster.table.workers.values()):
        if worker.state in COMING:
            cluster.kill(worker, EndReason.STOP)
        elif worker.state is not WorkerState.ENDING:
            # This includes the workers that drain already: they must stop handing over to workers that end too.
            cluster.retire(worker, None, EndReason.STOP)


def continue_stop(cluster: ClusterState) -> None:
    """Kill everything if `killing` is set. End the templates after the workers. Finish when nothing is left."""
    if cluster.killing:
        for worker in list(cluster.table.workers.values()):
            cluster.kill(worker, EndReason.STOP, "asked to stop at once")
        for template in cluster.table.templates.values():
            cluster.kill_template(template)
    end_unused(cluster, set())
    if not cluster.table.workers and not cluster.table.templates:
        cluster.phase = Phase.FINISHED
        cluster.actions.append(Finish(cluster.exit_status, cluster.exit_reason))

"""Enforce the time limits of boots, imports and drains."""

from clusterd.supervisor.actions import Severity
from clusterd.supervisor.decisions.failures import fail
from clusterd.supervisor.decisions.slots import successor_of
from clusterd.supervisor.model.cluster import ClusterState
from clusterd.supervisor.model.states import COMING, EndReason, TemplateState, WorkerState
from clusterd.supervisor.model.table import Template, Worker

ENDING_SECONDS = 3.0
"""How long a worker may take to end by itself after its drain.

It cuts the rest, with a line in the log for each request, and the application ends: the tasks, the threads and the exit
handlers (process/ending.py). If the machine is too busy to run the worker, the time begins when it runs. If the
application blocks the event loop, waiting does not help.
"""

HURRY_SECONDS = 0.3
"""The rest of the drain of a worker beyond rollout.max_draining: it hands over what it can, then cuts the rest."""


def enforce_deadlines(cluster: ClusterState) -> list[Template]:
    """Kill the workers and templates that have exceeded a time limit. Returns these templates."""
    for worker in cluster.table.in_state(*COMING):
        _watch_boot(cluster, worker)
    _limit_draining(cluster)
    for worker in cluster.table.in_state(WorkerState.DRAINING):
        if cluster.due(_last_moment(worker)):
            if worker.end is EndReason.MAX_DRAINING:
                cluster.kill(worker, EndReason.MAX_DRAINING, "it did not end its drain")
            else:
                cluster.kill(worker, EndReason.DRAIN_TIMEOUT, "not drained within timeouts.drain")
    return [
        template
        for template in list(cluster.table.templates.values())
        if template.state is TemplateState.LOADING and _import_is_over_time(cluster, template)
    ]


def _last_moment(worker: Worker) -> float:
    """The time at which a draining worker is killed."""
    return max(worker.deadline, worker.turned_at) + ENDING_SECONDS


def _watch_boot(cluster: ClusterState, worker: Worker) -> None:
    timeout = worker.deadline - worker.since
    if cluster.due(worker.deadline):
        if worker.state is WorkerState.FORKING and worker.template in cluster.table.templates:
            # The worker was never forked, so its template is stuck. The spare can take over.
            cluster.kill_template(cluster.table.templates[worker.template])
        fail(cluster, worker, EndReason.BOOT_TIMEOUT, f"not ready within rollout.boot_timeout ({timeout:g} s)")
    elif cluster.due(worker.since + timeout / 2) and worker.state is WorkerState.BOOTING:
        cluster.dump_stacks(worker, f"not ready after {timeout / 2:g} s", timeout)


def _import_is_over_time(cluster: ClusterState, template: Template) -> bool:
    timeout = cluster.table.generations[template.generation].settings.boot_timeout
    if cluster.due(template.since + timeout):
        cluster.kill_template(template)
        return True
    if cluster.due(template.since + timeout / 2):
        cluster.dump_stacks(template, f"still importing after {timeout / 2:g} s", timeout)
    return False


def _limit_draining(cluster: ClusterState) -> None:
    """Shorten the drain of the oldest generations beyond rollout.max_draining.

    A client that never disconnects would otherwise keep a worker of every deploy of the day alive.
    """
    draining = cluster.table.in_state(WorkerState.DRAINING)
    generations = sorted({w.generation for w in draining if w.end is EndReason.ROLLOUT})
    limit = cluster.table.generations[cluster.serving].settings.max_draining
    for number in generations[: max(0, len(generations) - limit)]:
        cluster.note(
            Severity.WARNING,
            f"more than rollout.max_draining ({limit}) generations are draining; ending the oldest",
            generation=number,
        )
        for worker in draining:
            if worker.generation == number:
                worker.deadline = min(worker.deadline, cluster.now + HURRY_SECONDS)
                cluster.retire(worker, successor_of(cluster, worker), EndReason.MAX_DRAINING)

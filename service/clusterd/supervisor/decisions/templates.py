"""Keep a template and a spare for every generation in use."""

from clusterd.supervisor.actions import Severity
from clusterd.supervisor.model.cluster import ClusterState, Phase
from clusterd.supervisor.model.states import TemplateState, WorkerState
from clusterd.supervisor.model.table import RolloutPhase, Template

SPARE_PAUSE = 1.0
"""Seconds between two spares of one generation, so that spares that die at once do not keep the machine busy."""
RECOVERY_PAUSE = 10.0
"""Seconds between two attempts to import the application again after its templates died."""


def tend_templates(cluster: ClusterState) -> None:
    """Promote spares, fork spares, and end the templates of generations that are not used any more."""
    rollout = cluster.rollout
    in_use = {cluster.serving}
    if rollout is not None and rollout.phase is not RolloutPhase.WITHDRAWING:
        in_use.add(rollout.generation)
    end_unused(cluster, in_use)
    for number in sorted(in_use & cluster.table.generations.keys()):
        _tend_generation(cluster, number)
    _forget_generations(cluster, in_use)
    _recover(cluster)


def end_unused(cluster: ClusterState, in_use: set[int]) -> None:
    """End the templates of all other generations. The last one of a generation ends after its workers.

    They may use what the import has created and the template removes at its end: a temporary directory, a manager of
    `multiprocessing`.
    """
    busy = {worker.generation for worker in cluster.table.workers.values()}
    for template in list(cluster.table.templates.values()):
        if template.generation in in_use:
            continue
        if not _is_last(cluster, template):
            cluster.kill_template(template)
        elif template.generation not in busy:
            cluster.end_template(template)


def _is_last(cluster: ClusterState, template: Template) -> bool:
    """Whether the exit handlers of the generation are for this process to run."""
    if template.state is TemplateState.SPARE:
        return cluster.table.forkable(template.generation) is None
    return template.state is TemplateState.LOADED


def _tend_generation(cluster: ClusterState, number: int) -> None:
    table = cluster.table
    spare = _first(cluster, number, TemplateState.SPARE)
    if table.forkable(number) is None and spare is not None:
        spare.move(TemplateState.LOADED)
        cluster.note(Severity.WARNING, "the spare template takes over", generation=number)
    template = table.forkable(number)
    if template is None or table.coming_template(number) is not None:
        return
    generation = table.generations[number]
    if cluster.due(generation.spare_not_before):
        generation.spare_not_before = cluster.now + SPARE_PAUSE
        cluster.fork_spare(template)


def _first(cluster: ClusterState, generation: int, state: TemplateState) -> Template | None:
    return next((t for t in cluster.table.templates.values() if t.generation == generation and t.state is state), None)


def _forget_generations(cluster: ClusterState, in_use: set[int]) -> None:
    alive = in_use | {worker.generation for worker in cluster.table.workers.values()}
    for number in [number for number in cluster.table.generations if number not in alive]:
        del cluster.table.generations[number]


def _recover(cluster: ClusterState) -> None:
    """Import the application again if template and spare are both dead and a slot is empty.

    Only a new import can fill that slot. It is a normal rollout, so the code on disk must prove itself as in a reload.
    As long as every slot is served, clusterd imports nothing on its own.
    """
    table = cluster.table
    if cluster.phase is not Phase.RUNNING or cluster.rollout is not None or cluster.reload_pending:
        return
    if table.has_template(cluster.serving):
        return
    if all(table.heir(slot, cluster.serving) for slot in cluster.slots()):
        return
    if any(worker.state is WorkerState.FORKING for worker in table.workers.values()):
        return
    if cluster.due(cluster.recovery_not_before):
        cluster.recovery_not_before = cluster.now + RECOVERY_PAUSE
        cluster.reload_pending = True
        cluster.note(
            Severity.ERROR,
            "a worker is missing and its template and spare are dead; importing the application anew",
            generation=cluster.serving,
        )

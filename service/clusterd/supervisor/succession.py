"""How the next master begins when the last one has died between two actions: pure, as every decision.

The state is written before the actions of a step are carried out, with these actions. So the next master knows each
decision, and of the last ones it does not know whether they were carried out. It carries them out again.
"""

from collections.abc import Iterator, Set
from dataclasses import dataclass

from clusterd.supervisor import actions, events
from clusterd.supervisor.model.cluster import ClusterState
from clusterd.supervisor.model.rotation import Rotation
from clusterd.supervisor.model.states import COMING, EndReason, TemplateState, WorkerState

GONE = "it ended while there was no master"
_STARTS = (actions.StartTemplate, actions.ForkSpare, actions.Fork)
_ORDERS = (
    actions.Serve,
    actions.SetKeepAlive,
    actions.Retire,
    actions.Kill,
    actions.DumpStacks,
    actions.EndTemplate,
    actions.KillTemplate,
)
"""What only a living process can be told."""


@dataclass(frozen=True, slots=True)
class Found:
    """The processes that the next master has found, by serial."""

    known: frozenset[int]
    """Those that had got their first order. All others have seen the end of their channel, and have done nothing."""
    alive: frozenset[int]
    """Those of them that live and can be reached."""
    unsent: frozenset[int] = frozenset()
    """Those that had not read so many messages that orders to them waited in the dead master, and are lost with it."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What the next master does first: it carries out the actions, in order, and then posts the events."""

    actions: list[actions.Action]
    events: list[events.Event]


def begin(cluster: ClusterState, pending: list[actions.Action], found: Found) -> Beginning:
    """Return how to go on from the state of the last master. `pending` may be carried out, in part or as a whole."""
    again = [each for each in pending if not isinstance(each, _STARTS)]
    again = [each for each in again if not isinstance(each, _ORDERS) or each.serial in found.alive]
    killed = {each.serial for each in again if isinstance(each, actions.Kill)}
    again += [each for each in _kills_under_way(cluster, found) if each.serial not in killed]
    told = {each.serial for each in again if isinstance(each, actions.Serve)}
    again += [actions.Serve(serial) for serial in _lost(cluster, found, WorkerState.READY) if serial not in told]
    again += [actions.SetKeepAlive(serial, is_on) for serial, is_on in _keep_alives(cluster, found)]
    starts = {each.serial: each for each in _starts(cluster) if each.serial not in found.known}
    retired = _lost(cluster, found, WorkerState.RETIRED, WorkerState.DRAINING)
    # As if its successor had been lost, because another one may serve in its slot by now.
    lost = [events.SuccessorLost(serial) for serial in retired]
    return Beginning([*again, *starts.values()], [*_deaths(cluster, found.alive | starts.keys()), *lost])


def _lost(cluster: ClusterState, found: Found, *states: WorkerState) -> list[int]:
    """The workers in these states whose last order may be lost."""
    return [each.serial for each in cluster.table.in_state(*states) if each.serial in found.unsent & found.alive]


def _keep_alives(cluster: ClusterState, found: Found) -> Iterator[tuple[int, bool]]:
    for worker in cluster.table.in_state(WorkerState.READY, WorkerState.RETIRED):
        if worker.serial in found.unsent & found.alive:
            yield worker.serial, cluster.rotation is not Rotation.OUT


def _kills_under_way(cluster: ClusterState, found: Found) -> list[actions.Kill]:
    """A hung worker is killed a moment after the decision, when its connections were taken from it."""
    ending = [each for each in cluster.table.in_state(WorkerState.ENDING) if each.serial in found.alive]
    return [actions.Kill(each.serial, each.end or EndReason.STOP, each.detail) for each in ending]


def _starts(cluster: ClusterState) -> Iterator[actions.StartTemplate | actions.ForkSpare | actions.Fork]:
    """The starts that may be under way. The process of one that is not known has done nothing: it is started again."""
    for template in cluster.table.templates.values():
        parent = cluster.table.forkable(template.generation)
        if template.state is TemplateState.LOADING:
            yield cluster.start_of_template(template)
        elif template.state is TemplateState.SPARE_COMING and parent is not None:
            yield actions.ForkSpare(template.serial, parent.serial, template.generation)
    for worker in cluster.table.in_state(*COMING):
        yield actions.Fork(worker.serial, worker.template, worker.slot, worker.generation)


def _deaths(cluster: ClusterState, there: Set[int]) -> list[events.Event]:
    return [
        *(events.TemplateGone(serial, GONE) for serial in cluster.table.templates if serial not in there),
        *(events.WorkerGone(serial, GONE) for serial in cluster.table.workers if serial not in there),
    ]

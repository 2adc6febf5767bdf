"""How the next master begins when the last one has died between two actions: pure, as every decision.

The state is written before the actions of a step are carried out, with these actions. So the next master knows each
decision, and of the last ones it does not know whether they were carried out. It carries them out again.
"""

from collections.abc import Iterator, Set
from dataclasses import replace

from clusterd.records import dataclass
from clusterd.supervisor import actions, events
from clusterd.supervisor.model.cluster import ClusterState
from clusterd.supervisor.model.rotation import Rotation
from clusterd.supervisor.model.states import COMING, EndReason, TemplateState, WorkerState
from clusterd.supervisor.model.table import RolloutPhase, Worker

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


def begin(cluster: ClusterState, pending: list[actions.Action], found: Found, now: float) -> Beginning:
    """Return how to go on at `now` from the state of the last master. `pending` may be carried out, or a part."""
    again = [each for each in pending if not isinstance(each, _STARTS)]
    again = [each for each in again if not isinstance(each, _ORDERS) or each.serial in found.alive]
    again = [_rest_of(cluster, each, now) if isinstance(each, actions.Retire) else each for each in again]
    again += _lost_orders(cluster, again, found, now)
    starts = {each.serial: each for each in _starts(cluster) if each.serial not in found.known}
    retired = _retired_by(again)
    lost = [each for each in _not_retired(cluster, found, retired) if not _leaves_for_good(each)]
    told = [
        *_deaths(cluster, found.alive | starts.keys()),
        *(events.SpareReady(serial) for serial in _ready_spares(cluster, found)),
        # As if its successor had been lost, because another one may serve in its slot by now.
        *(events.SuccessorLost(each.serial) for each in lost),
    ]
    return Beginning([*again, *starts.values()], told)


def _lost_orders(
    cluster: ClusterState, again: list[actions.Action], found: Found, now: float
) -> Iterator[actions.Action]:
    """The orders that the dead master may have had in hand, although they were not pending any more."""
    killed = {each.serial for each in again if isinstance(each, actions.Kill)}
    yield from (each for each in _kills_under_way(cluster, found) if each.serial not in killed)
    served = {each.serial for each in again if isinstance(each, actions.Serve)}
    yield from (actions.Serve(each.serial) for each in _unsent(cluster, found, WorkerState.READY, but=served))
    yield from (actions.SetKeepAlive(serial, is_on) for serial, is_on in _keep_alives(cluster, found))
    for worker in _not_retired(cluster, found, _retired_by(again)):
        if _leaves_for_good(worker):
            yield _retire_alone(cluster, worker, now)
    if _is_reading(cluster) and not any(isinstance(each, actions.ReadConfiguration) for each in again):
        yield actions.ReadConfiguration()


def _unsent(cluster: ClusterState, found: Found, *states: WorkerState, but: Set[int] = frozenset()) -> Iterator[Worker]:
    """The workers in these states whose last order may be lost."""
    lost = found.unsent & found.alive - but
    return (each for each in cluster.table.in_state(*states) if each.serial in lost)


def _not_retired(cluster: ClusterState, found: Found, retired: Set[int]) -> Iterator[Worker]:
    return _unsent(cluster, found, WorkerState.RETIRED, WorkerState.DRAINING, but=retired)


def _retired_by(orders: list[actions.Action]) -> set[int]:
    return {each.serial for each in orders if isinstance(each, actions.Retire)}


def _leaves_for_good(worker: Worker) -> bool:
    """Whether a worker hands nothing over, because the service stops."""
    return worker.end is EndReason.STOP


def _retire_alone(cluster: ClusterState, worker: Worker, now: float) -> actions.Retire:
    idle_seconds = cluster.table.generations[worker.generation].settings.drain_idle
    return actions.Retire(worker.serial, None, _rest_of_drain(worker, now), idle_seconds, linger=False)


def _rest_of(cluster: ClusterState, order: actions.Retire, now: float) -> actions.Retire:
    """The order with the time that is left: the worker would be killed if it began to drain anew."""
    worker = cluster.table.workers.get(order.serial)
    return order if worker is None else replace(order, seconds=_rest_of_drain(worker, now))


def _rest_of_drain(worker: Worker, now: float) -> float:
    return max(0.0, worker.deadline - now)


def _is_reading(cluster: ClusterState) -> bool:
    """Whether a rollout or a start waits for what is in the configuration. No written state has it before."""
    is_of_rollout = cluster.rollout is not None and cluster.rollout.phase is RolloutPhase.CONFIGURATION
    return is_of_rollout or cluster.first_start.is_reading


def _ready_spares(cluster: ClusterState, found: Found) -> Iterator[int]:
    """The spares that have said Hello, which makes them known. They say it once."""
    for template in cluster.table.templates.values():
        if template.state is TemplateState.SPARE_COMING and template.serial in found.known & found.alive:
            yield template.serial


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

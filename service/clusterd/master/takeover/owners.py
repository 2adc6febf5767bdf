"""The objects of the master whose state outlives its program: how it is collected, and how another goes on with it."""

import os
import socket
import time
from pathlib import Path

from clusterd.config.model import Config
from clusterd.linux.listening_socket import ListeningSocket
from clusterd.linux.wakeups import Wakeups
from clusterd.master.admin.counts import Counts
from clusterd.master.admin.event_log import EventLog
from clusterd.master.children.child import Kind
from clusterd.master.children.logging import tell_again
from clusterd.master.children.remains import Remains
from clusterd.master.configurations import KnownConfigurations
from clusterd.master.context import MasterContext
from clusterd.master.hooks.manager import Hooks
from clusterd.master.observing.observations import Observations
from clusterd.master.sockets.listeners import Listeners
from clusterd.master.sockets.round_robin import RoundRobin
from clusterd.master.takeover.state import (
    Cause,
    ChildState,
    ListenersState,
    MasterState,
    Succession,
)
from clusterd.master.takeover.state_file import TakeoverError
from clusterd.master.worker_events import WorkerEvents
from clusterd.metrics.page.ledger import Ledger
from clusterd.metrics.regions.arena import Arena
from clusterd.metrics.shared.scoreboard import Scoreboard
from clusterd.records import dataclass
from clusterd.supervisor.model.states import WorkerState
from clusterd.supervisor.snapshot import SnapshotError, pending_in, restore
from clusterd.supervisor.succession import Beginning, Found, begin
from clusterd.supervisor.supervisor import Supervisor
from clusterd.systemd.descriptor_store import Kind as StoredKind
from clusterd.systemd.sockets import Role
from clusterd.wire.messages import MasterChanged


@dataclass(frozen=True, slots=True)
class Foundations:
    """What everything else of the master is built on."""

    supervisor: Supervisor
    scoreboard: Scoreboard
    arena: Arena
    wakeups: Wakeups

    @classmethod
    def new(cls) -> "Foundations":
        """Those of a service that starts. Raises OSError."""
        return cls(Supervisor(), Scoreboard.create(), Arena.create(), Wakeups.create())

    @classmethod
    def of(cls, state: MasterState) -> "Foundations":
        """Those of a service that runs. Raises TakeoverError."""
        try:
            supervisor = restore(state.cluster)
        except SnapshotError as error:
            raise TakeoverError(str(error)) from None
        for descriptor in (state.shared.scoreboard, state.shared.arena, *state.shared.wakeups):
            _own(descriptor)
        # Their headers say the same as the layouts in the state, and a worker could have written there.
        scoreboard = Scoreboard(state.shared.scoreboard)
        scoreboard.take_over(child.row for child in state.children if child.row is not None)
        arena = Arena.go_on(state.shared.arena, state.shared.kept_of_arena)
        return cls(supervisor, scoreboard, arena, Wakeups(state.shared.wakeups))


@dataclass(frozen=True, slots=True)
class Owners:
    """Every object that has something to leave, or to go on with."""

    context: MasterContext
    round_robin: RoundRobin
    ledger: Ledger
    counts: Counts
    event_log: EventLog
    worker_events: WorkerEvents
    observations: Observations
    remains: Remains
    hooks: Hooks

    def begin(self, state: MasterState) -> Beginning:
        """Tell the processes of a dead master that this one goes on, and return how."""
        context = self.context
        adopted = [child for child in context.children.all() if child.kind is not Kind.HOOKS]
        for child in adopted:
            context.children.send(child, MasterChanged(os.getpid()))
        serials = frozenset(child.serial for child in adopted)
        unsent = frozenset(each.serial for each in state.children if each.has_unsent)
        for child in adopted:
            if child.serial in unsent:
                tell_again(child, context.children)
        # Of those that have ended, the channels are read before their deaths are handled.
        return begin(context.cluster, pending_in(state.cluster), Found(serials, serials, unsent), time.monotonic())

    def resume(self, succession: Succession) -> None:
        """Go on with what an earlier program has collected. `context` is built on the Foundations of the same."""
        context, state = self.context, succession.state
        context.keeper.resume(state.stored)
        context.configurations.resume(_configurations_of(state))
        context.processes.environments.update(state.environments)
        context.processes.first_master = state.first_master
        context.log.set_level(state.log_level)
        children = context.children
        children.access_log = state.access_log
        children.orphans_reaped = state.counted.orphans_reaped
        children.messages_dropped = state.counted.messages_dropped
        self.ledger.resume(state.counted.totals, state.counted.cpu_seconds)
        self.counts.resume(state.counted.counts, is_new_process=succession.cause is Cause.DEATH)
        self.round_robin.refused = state.counted.refused_connections
        context.log.resume(state.counted.log_records_lost)
        remembered = state.remembered
        self.event_log.resume(remembered.last_event, remembered.events, remembered.messages)
        self.worker_events.resume(remembered.workers)
        self.observations.resume(remembered.observations)
        for each in state.children:
            self._adopt(each)
        self.remains.resume(remembered.workers_gone)
        if succession.cause is Cause.DEATH:
            self._drop_the_rest(state)
        self.hooks.resume(state.counted.hooks, remembered.workers.values())

    def _drop_the_rest(self, state: MasterState) -> None:
        """Close what belongs to no process of the state: their other ends have had no order yet, or have ended."""
        file = [number for number, name in state.stored.items() if name == StoredKind.STATE]
        adopted = [fd for each in self.context.children.all() for fd in (each.channel_descriptor, each.stacks)]
        shared = (state.shared.scoreboard, state.shared.arena, *state.shared.wakeups)
        listeners = (each.descriptor for each in state.listeners.sockets)
        rest = state.stored.keys() - {*file, *adopted, *shared, *listeners}
        self.context.keeper.forget(rest)
        for descriptor in rest:
            os.close(descriptor)

    def _adopt(self, state: ChildState) -> None:
        child = state.child()
        if child.stacks >= 0:
            _own(child.stacks)
        channel = None if state.channel < 0 else socket.socket(fileno=_own(state.channel))
        configurations, generation = self.context.configurations, child.generation
        drain_seconds = configurations.of(generation).timeouts.drain if configurations.has(generation) else 0.0
        self.context.children.adopt(child, state.pid, channel, drain_seconds)
        worker = self.context.cluster.table.workers.get(state.serial)
        if worker is not None and worker.state is WorkerState.READY:
            self.round_robin.serves(child)
        elif worker is not None and worker.state in (WorkerState.RETIRED, WorkerState.DRAINING):
            self.round_robin.drains(child)


def configuration_that_serves(state: MasterState) -> Config:
    """Return it. Raises TakeoverError if this program cannot go on with the supervisor's state or a configuration."""
    try:
        return _configurations_of(state).by_generation[restore(state.cluster).cluster.serving]
    except SnapshotError as error:
        raise TakeoverError(str(error)) from None
    except (TypeError, KeyError, ValueError) as error:
        raise TakeoverError(f"a configuration of the running master cannot be read: {error!r}") from None


def _configurations_of(state: MasterState) -> KnownConfigurations:
    """Raises TypeError, KeyError or ValueError if another version has written one."""
    started_with = state.started_with.config()
    candidate = started_with if state.candidate is None else state.candidate.config()
    by_generation = {number: each.config() for number, each in state.configurations.items()}
    return KnownConfigurations(started_with, candidate, by_generation)


def _own(descriptor: int) -> int:
    """Have a descriptor closed at the next exec, as every other."""
    os.set_inheritable(descriptor, False)
    return descriptor


def listeners_of(state: ListenersState) -> Listeners:
    """Return the listening sockets that an earlier program has left."""
    public: dict[Role, list[ListeningSocket]] = {Role.HTTP: [], Role.HTTPS: []}
    own: dict[Role, list[socket.socket]] = {Role.METRICS: [], Role.CONTROL: [], Role.AGENT: []}
    bound = []
    for each in state.sockets:
        descriptor = _own(each.descriptor)
        if each.role in own:
            own[each.role].append(socket.socket(fileno=descriptor))
            continue
        public[each.role].append(ListeningSocket(descriptor, each.role.value))
        if each.is_bound:
            bound.append(public[each.role][-1])
    return Listeners(
        http=tuple(public[Role.HTTP]),
        https=tuple(public[Role.HTTPS]),
        metrics=tuple(own[Role.METRICS]),
        control=tuple(own[Role.CONTROL]),
        agent=tuple(own[Role.AGENT]),
        bound=tuple(bound),
        bound_paths=tuple(map(Path, state.bound_paths)),
        passed=state.passed,
    )

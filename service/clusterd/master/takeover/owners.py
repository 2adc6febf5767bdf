"""The objects of the master whose state outlives its program: how it is collected, and how another goes on with it."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from clusterd.config.model import Config
from clusterd.linux.listening_socket import ListeningSocket
from clusterd.linux.wakeups import Wakeups
from clusterd.master.admin.counts import Counts
from clusterd.master.admin.event_log import EventLog
from clusterd.master.children.table import Child, Children, Kind
from clusterd.master.context import MasterContext
from clusterd.master.hooks.manager import Hooks
from clusterd.master.observing.observations import Observations
from clusterd.master.sockets.listeners import Listeners
from clusterd.master.sockets.round_robin import RoundRobin
from clusterd.master.takeover.state import (
    FORMAT,
    OWN_LAYOUTS,
    ChildState,
    ConfigState,
    Counted,
    ListenersState,
    ListenerState,
    MasterState,
    Remembered,
    SharedMemory,
    TakeoverError,
)
from clusterd.master.worker_events import WorkerEvents
from clusterd.metrics.page.ledger import Ledger
from clusterd.metrics.regions.arena import Arena
from clusterd.metrics.shared.scoreboard import Scoreboard
from clusterd.supervisor.model.states import WorkerState
from clusterd.supervisor.snapshot import SnapshotError, restore, snapshot
from clusterd.supervisor.supervisor import Supervisor
from clusterd.systemd.sockets import Role
from clusterd.version import __version__


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
    hooks: Hooks

    def collect(self) -> MasterState:
        """What another program of the master needs to go on."""
        context = self.context
        started_with, configurations = context.configurations.kept()
        return MasterState(
            format=FORMAT,
            program=__version__,
            layouts=OWN_LAYOUTS,
            cluster=snapshot(context.cluster),
            shared=SharedMemory(
                context.scoreboard.descriptor,
                context.arena.descriptor,
                context.arena.kept(),
                context.processes.wakeups.descriptors,
            ),
            listeners=_state_of_listeners(context.listeners),
            children=tuple(_states_of_children(context.children)),
            started_with=ConfigState.of(started_with),
            configurations={number: ConfigState.of(each) for number, each in configurations.items()},
            environments=dict(context.processes.environments),
            log_level=context.log.level,
            access_log=context.children.access_log,
            counted=Counted(
                *self.ledger.kept(),
                self.counts.kept(),
                context.children.orphans_reaped,
                context.children.messages_dropped,
                self.round_robin.refused,
                context.log.lost,
                self.hooks.kept(),
            ),
            remembered=Remembered(*self.event_log.kept(), self.worker_events.kept(), self.observations.kept()),
        )

    def resume(self, state: MasterState) -> None:
        """Go on with what an earlier program has collected. `context` is built on the Foundations of the same."""
        context = self.context
        configurations = {number: each.config() for number, each in state.configurations.items()}
        context.configurations.resume(state.started_with.config(), configurations)
        context.processes.environments.update(state.environments)
        context.log.set_level(state.log_level)
        children = context.children
        children.access_log = state.access_log
        children.orphans_reaped = state.counted.orphans_reaped
        children.messages_dropped = state.counted.messages_dropped
        self.ledger.resume(state.counted.totals, state.counted.cpu_seconds)
        self.counts.resume(state.counted.counts)
        self.round_robin.refused = state.counted.refused_connections
        context.log.resume(state.counted.log_records_lost)
        remembered = state.remembered
        self.event_log.resume(remembered.last_event, remembered.events, remembered.messages)
        self.worker_events.resume(remembered.workers)
        self.observations.resume(remembered.observations)
        for each in state.children:
            self._adopt(each)
        self.hooks.resume(state.counted.hooks, remembered.workers.values())

    def _adopt(self, state: ChildState) -> None:
        child = Child(
            serial=state.serial,
            kind=state.kind,
            generation=state.generation,
            slot=state.slot,
            row=state.row,
            copy=state.copy,
            stacks=_own(state.stacks) if state.stacks >= 0 else -1,
            stacks_read=state.stacks_read,
            log_level=state.log_level,
            access_log=state.access_log,
            is_heard=state.is_heard,
            signal_asked_for=state.signal_asked_for,
            debugger=state.debugger,
        )
        self.context.children.adopt(child, state.pid, socket.socket(fileno=_own(state.channel)))
        worker = self.context.cluster.table.workers.get(state.serial)
        if worker is not None and worker.state is WorkerState.READY:
            self.round_robin.serves(child)
        elif worker is not None:
            self.round_robin.drains(child)


def configuration_that_serves(state: MasterState) -> Config:
    """Return it. Raises TakeoverError if this program cannot go on with the supervisor's state or a configuration."""
    try:
        configurations = {number: each.config() for number, each in state.configurations.items()}
        state.started_with.config()
        return configurations[restore(state.cluster).cluster.serving]
    except SnapshotError as error:
        raise TakeoverError(str(error)) from None
    except (TypeError, KeyError, ValueError) as error:
        raise TakeoverError(f"a configuration of the running master cannot be read: {error!r}") from None


def _own(descriptor: int) -> int:
    """Have a descriptor closed at the next exec, as every other."""
    os.set_inheritable(descriptor, False)
    return descriptor


def _states_of_children(children: Children) -> list[ChildState]:
    """The processes of the supervisor. The hooks process ends with the program, and the next one starts its own."""
    return [
        ChildState(
            serial=child.serial,
            kind=child.kind,
            generation=child.generation,
            slot=child.slot,
            row=child.row,
            pid=child.pid,
            copy=child.copy,
            channel=child.channel.fileno(),
            stacks=child.stacks,
            stacks_read=child.stacks_read,
            log_level=child.log_level,
            access_log=child.access_log,
            is_heard=child.is_heard,
            signal_asked_for=child.signal_asked_for,
            debugger=child.debugger,
        )
        for child in children.all()
        if child.kind is not Kind.HOOKS and child.pid is not None and child.channel is not None
    ]


def _state_of_listeners(listeners: Listeners) -> ListenersState:
    sockets = [ListenerState(each.fileno(), Role(each.scheme), each in listeners.bound) for each in listeners.public]
    sockets += [ListenerState(each.fileno(), Role.METRICS, is_bound=False) for each in listeners.metrics]
    sockets += [ListenerState(each.fileno(), Role.CONTROL, is_bound=False) for each in listeners.control]
    return ListenersState(tuple(sockets), tuple(map(str, listeners.bound_paths)), listeners.passed)


def listeners_of(state: ListenersState) -> Listeners:
    """Return the listening sockets that an earlier program has left."""
    public: dict[Role, list[ListeningSocket]] = {Role.HTTP: [], Role.HTTPS: []}
    own: dict[Role, list[socket.socket]] = {Role.METRICS: [], Role.CONTROL: []}
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
        bound=tuple(bound),
        bound_paths=tuple(map(Path, state.bound_paths)),
        passed=state.passed,
    )

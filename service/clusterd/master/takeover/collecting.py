"""Collects the state of the master from the objects that own it."""

from collections.abc import Sequence
from operator import attrgetter

from clusterd.config.model import Config
from clusterd.master.children.child import Child, Kind
from clusterd.master.sockets.listeners import Listeners
from clusterd.master.takeover.owners import Owners
from clusterd.master.takeover.state import (
    COPIED_OF_CHILD,
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
)
from clusterd.master.takeover.state_file import StateFile
from clusterd.master.takeover.state_text import Memo, StateText
from clusterd.supervisor.actions import Action
from clusterd.supervisor.snapshot import snapshot_of_values
from clusterd.systemd.descriptor_store import Kind as StoredKind
from clusterd.systemd.sockets import Role
from clusterd.version import __version__

_COPIED = attrgetter(*COPIED_OF_CHILD)


class Collector:
    """Collects what is to be left, and has it kept. What has not changed is not made anew."""

    def __init__(self, owners: Owners) -> None:
        self.owners = owners
        self._text = StateText()
        self._children: Memo[ChildState] = Memo()
        self._configs: Memo[ConfigState] = Memo()

    def collect(self, pending: Sequence[Action] = ()) -> MasterState:
        """What another program of the master needs to go on. `pending` are actions that are not carried out yet.

        What is in it changes with the objects: make a text of it at once.
        """
        owners, context = self.owners, self.owners.context
        for memo in (self._children, self._configs):
            memo.begin()
        configurations = context.configurations.kept()
        return MasterState(
            format=FORMAT,
            program=__version__,
            layouts=OWN_LAYOUTS,
            cluster=snapshot_of_values(context.cluster, pending),
            shared=SharedMemory(
                context.scoreboard.descriptor,
                context.arena.descriptor,
                context.arena.kept(),
                context.processes.wakeups.descriptors,
            ),
            listeners=_state_of_listeners(context.listeners),
            children=tuple(self._states_of_children()),
            started_with=self._state_of_config(configurations.started_with),
            candidate=self._state_of_config(configurations.candidate),
            configurations={
                number: self._state_of_config(each) for number, each in configurations.by_generation.items()
            },
            environments=dict(context.processes.environments),
            log_level=context.log.level,
            access_log=context.children.access_log,
            counted=Counted(
                *owners.ledger.kept(),
                owners.counts.kept(),
                context.children.orphans_reaped,
                context.children.messages_dropped,
                owners.round_robin.refused,
                context.log.lost,
                owners.hooks.kept(),
            ),
            remembered=Remembered(
                *owners.event_log.kept(), owners.worker_events.kept(), owners.observations.kept(), owners.remains.kept()
            ),
            first_master=context.processes.first_master,
            stored=context.keeper.names,
        )

    def keep(self, file: StateFile | None) -> None:
        """Keep the state from now on, in the `file` of an earlier program if there is one. Raises OSError."""
        context, keeper = self.owners.context, self.owners.context.keeper
        keeper.keep([context.scoreboard.descriptor, context.arena.descriptor], StoredKind.SHARED)
        keeper.keep(context.processes.wakeups.descriptors, StoredKind.WAKEUP)
        keeper.keep(context.listeners.descriptors, StoredKind.LISTENER)
        keeper.begin(self._collect_text, file)

    def _collect_text(self, pending: Sequence[Action]) -> bytes:
        return self._text.of(self.collect(pending))

    def _state_of_config(self, config: Config) -> ConfigState:
        return self._configs.made(config, (), lambda: ConfigState.of(config))

    def _states_of_children(self) -> list[ChildState]:
        """The processes of the supervisor. The hooks process ends with the program, and the next one starts its own."""
        children = self.owners.context.children.all()
        kept = (each for each in children if each.kind is not Kind.HOOKS and each.pid is not None)
        return [self._state_of_child(each) for each in kept]

    def _state_of_child(self, child: Child) -> ChildState:
        channel = -1 if child.channel is None else child.channel.fileno()
        has_unsent = child.channel is not None and not child.channel.is_idle
        parts = (channel, has_unsent, *_COPIED(child))
        return self._children.made(child, parts, lambda: ChildState.of(child, channel, has_unsent=has_unsent))


def _state_of_listeners(listeners: Listeners) -> ListenersState:
    sockets = [ListenerState(each.fileno(), Role(each.scheme), each in listeners.bound) for each in listeners.public]
    own = {Role.METRICS: listeners.metrics, Role.CONTROL: listeners.control, Role.AGENT: listeners.agent}
    sockets += [ListenerState(each.fileno(), role, is_bound=False) for role, its in own.items() for each in its]
    return ListenersState(tuple(sockets), tuple(map(str, listeners.bound_paths)), listeners.passed)

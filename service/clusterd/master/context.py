"""The objects that the modules of the master share, and the protocol of an observer."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from clusterd.log import Logger
from clusterd.master.children.conversations import Conversations
from clusterd.master.children.processes import Processes
from clusterd.master.children.table import Children
from clusterd.master.configurations import Configurations
from clusterd.master.diagnosis.debuggers import Debuggers
from clusterd.master.diagnosis.examinations import Examinations
from clusterd.master.diagnosis.stacks import StackReader
from clusterd.master.observing.memory import MemorySampler
from clusterd.master.sockets.listeners import Listeners
from clusterd.master.takeover.keeper import Keeper
from clusterd.metrics.regions.arena import Arena
from clusterd.metrics.shared.scoreboard import Scoreboard
from clusterd.records import dataclass
from clusterd.supervisor import actions, events
from clusterd.supervisor.model.cluster import ClusterState
from clusterd.supervisor.supervisor import Supervisor
from clusterd.wire.conversation import Incoming
from clusterd.wire.hooks import WorkerEvent


@dataclass(frozen=True, slots=True)
class MasterContext:
    """Created before the objects that use it. May be used only in the thread that runs `loop`."""

    loop: asyncio.AbstractEventLoop
    log: Logger
    supervisor: Supervisor
    post_event: Callable[[events.Event], None]
    """Passes an event to the supervisor."""
    configurations: Configurations
    scoreboard: Scoreboard
    arena: Arena
    listeners: Listeners
    children: Children
    conversations: Conversations
    stacks: StackReader
    debuggers: Debuggers
    processes: Processes
    memory: MemorySampler
    examinations: Examinations
    keeper: Keeper

    @property
    def cluster(self) -> ClusterState:
        """The state that the supervisor keeps. Read it only: the supervisor alone changes it."""
        return self.supervisor.cluster


class Observer(Protocol):
    """Follows the events of the cluster. Every method is called on the master's loop and must not block."""

    def note_event(self, event: events.Event) -> None:
        """The supervisor is about to process `event`."""

    def note_action(self, action: actions.Action) -> None:
        """The supervisor has decided on `action`, and the executor has carried it out."""

    def note_worker_event(self, worker_event: WorkerEvent) -> None:
        """A worker was forked, began to serve, left or ended."""

    def message_received(self, incoming: Incoming, worker_event: WorkerEvent) -> None:
        """The application in a worker has sent a message. The observer must take it and answer it."""

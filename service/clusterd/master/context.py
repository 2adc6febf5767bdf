"""What the parts of the master share, and the protocol of those that follow what happens."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from clusterd.log import Logger
from clusterd.master.children.conversations import Conversations
from clusterd.master.children.debuggers import Debuggers
from clusterd.master.children.processes import Processes
from clusterd.master.children.stacks import StackReader
from clusterd.master.children.table import Children
from clusterd.master.configurations import Configurations
from clusterd.master.sockets.listeners import Listeners
from clusterd.metrics.scoreboard import Scoreboard
from clusterd.supervisor import actions, events
from clusterd.supervisor.model.cluster import Cluster
from clusterd.supervisor.supervisor import Supervisor
from clusterd.wire.conversation import Incoming
from clusterd.wire.hooks import WorkerEvent


@dataclass(frozen=True, slots=True)
class MasterContext:
    """Made before the parts that use it. For the thread that runs `loop` only."""

    loop: asyncio.AbstractEventLoop
    log: Logger
    supervisor: Supervisor
    happened: Callable[[events.Event], None]
    """Has the supervisor decide about an event."""
    configurations: Configurations
    scoreboard: Scoreboard
    listeners: Listeners
    children: Children
    conversations: Conversations
    stacks: StackReader
    debuggers: Debuggers
    processes: Processes

    @property
    def cluster(self) -> Cluster:
        """What the supervisor knows; to be read only."""
        return self.supervisor.cluster


class Observer(Protocol):
    """Follows what happens. Everything is called on the master's loop, and has to return at once."""

    def note_event(self, event: events.Event) -> None:
        """The supervisor is about to decide about `event`."""

    def note_action(self, action: actions.Action) -> None:
        """The supervisor has decided on `action`, and it was carried out."""

    def note_worker_event(self, worker_event: WorkerEvent) -> None:
        """A worker was forked, serves, leaves or has ended."""

    def heard(self, incoming: Incoming, worker_event: WorkerEvent) -> None:
        """The application in a worker has sent a message, which the observer has to take and to answer."""

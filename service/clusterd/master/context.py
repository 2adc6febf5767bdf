"""What a program that is its own master (`clusterd.Cluster`) is told, and what it gets its hands on."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from clusterd.master.children.conversations import Messages
from clusterd.master.children.debuggers import Debuggers
from clusterd.master.children.processes import Processes
from clusterd.master.children.stacks import StackReader
from clusterd.master.children.table import Child, Children
from clusterd.master.sockets.listeners import Listeners
from clusterd.supervisor import actions, events
from clusterd.supervisor.supervisor import Supervisor
from clusterd.wire.conversation import Incoming


@dataclass(frozen=True, slots=True)
class MasterContext:
    """Of the master, for its own thread only."""

    loop: asyncio.AbstractEventLoop
    supervisor: Supervisor
    happened: Callable[[events.Event], None]
    children: Children
    debuggers: Debuggers
    messages: Messages
    processes: Processes
    listeners: Listeners
    stacks: StackReader


class Observer(Protocol):
    """All of it is called on the master's loop, and is to return at once."""

    def begin(self, context: MasterContext) -> None:
        """There is a master."""

    def note_event(self, event: events.Event) -> None:
        """The supervisor is about to hear this."""

    def note_action(self, action: actions.Action) -> None:
        """Something was decided, and done."""

    def heard(self, child: Child, incoming: Incoming) -> None:
        """The application in a worker has said something, which is the program's to take and to answer."""

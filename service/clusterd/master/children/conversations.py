"""What the applications in the workers say to the master, and are told by it."""

import asyncio
from collections.abc import Callable
from typing import Any

from clusterd.master.children.table import Child
from clusterd.wire.conversation import Conversation, Disconnected, Incoming
from clusterd.wire.messages import Ack, AppMessage


class Conversations:
    """Owns one conversation with each worker. `heard` is called with every message, on the loop, and takes it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, heard: Callable[[Child, Incoming], None]) -> None:
        self._loop = loop
        self._heard = heard
        self._conversations: dict[int, Conversation] = {}

    def send(self, child: Child, value: Any) -> None:
        """Tell the application in a worker. Raises TypeError, ValueError, QueueFull and Disconnected."""
        self.conversation(child).send(value)

    def conversation(self, child: Child) -> Conversation:
        """With the application in a worker; what is said before that has a process waits. Raises Disconnected."""
        conversation = self._conversations.get(child.serial)
        if conversation is None:
            if child.channel is None:
                raise Disconnected(f"worker {child.slot} (pid {child.pid}) is gone")
            conversation = self._conversations[child.serial] = Conversation()
            if child.pid is not None:
                self._attach(conversation, child)
        return conversation

    def began(self, child: Child) -> None:
        """A worker has a process, and was welcomed: not before that it understands anything else."""
        if conversation := self._conversations.get(child.serial):
            self._attach(conversation, child)

    def received(self, child: Child, message: AppMessage | Ack) -> None:
        """A worker has said something for whoever talks to its application."""
        self.conversation(child).received(message)

    def ended(self, child: Child) -> None:
        """A worker is gone."""
        if conversation := self._conversations.pop(child.serial, None):
            conversation.end()

    def _attach(self, conversation: Conversation, child: Child) -> None:
        if child.channel is not None:
            conversation.attach(child.channel, self._loop, lambda incoming: self._heard(child, incoming))

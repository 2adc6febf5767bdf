"""Messages between the master and the application in each worker."""

import asyncio
from collections.abc import Callable
from typing import Any

from clusterd.master.children.child import Child
from clusterd.wire.conversation import Conversation, Disconnected, Incoming
from clusterd.wire.messages import Ack, AppMessage


class Conversations:
    """Owns one conversation with each worker. `heard` is called on the loop with every message, and must take it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_message: Callable[[Child, Incoming], None]) -> None:
        self._loop = loop
        self._on_message = on_message
        self._conversations: dict[int, Conversation] = {}

    def send(self, child: Child, value: Any) -> None:
        """Send a message to the application in a worker. Raises TypeError, ValueError, QueueFull and Disconnected."""
        self.conversation(child).send(value)

    def conversation(self, child: Child) -> Conversation:
        """The conversation with the application in a worker. Raises Disconnected if the worker has ended.

        Messages that are sent before the worker has a process wait in the queue.
        """
        conversation = self._conversations.get(child.serial)
        if conversation is None:
            if child.channel is None:
                raise Disconnected(f"worker {child.slot} (pid {child.pid}) is gone")
            conversation = self._conversations[child.serial] = Conversation()
            if child.pid is not None:
                self._attach(conversation, child)
        return conversation

    def began(self, child: Child) -> None:
        """Attach the conversation of a worker to its channel.

        Called after Welcome was sent, because the worker must receive that message first.
        """
        if conversation := self._conversations.get(child.serial):
            self._attach(conversation, child)

    def received(self, child: Child, message: AppMessage | Ack) -> None:
        """Handle a message, or an acknowledgement, of the application in a worker."""
        self.conversation(child).received(message)

    def ended(self, child: Child) -> None:
        """End the conversation of a worker that has ended."""
        if conversation := self._conversations.pop(child.serial, None):
            conversation.end()

    @property
    def are_idle(self) -> bool:
        """Whether no message is under way, as far as the master knows."""
        return all(each.is_idle for each in self._conversations.values())

    def _attach(self, conversation: Conversation, child: Child) -> None:
        if child.channel is not None:
            conversation.attach(child.channel, self._loop, lambda incoming: self._on_message(child, incoming))

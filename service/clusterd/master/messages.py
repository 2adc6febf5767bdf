"""What the applications in the workers say to the master, and are told by it."""

import asyncio
from collections.abc import Callable
from typing import Any

from clusterd.master.children import Child
from clusterd.wire.conversation import Conversation, Disconnected, Incoming
from clusterd.wire.messages import Say, Taken


class Messages:
    """Owns one conversation with each worker. `heard` is called with every message, on the loop, and takes it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, heard: Callable[[Child, Incoming], None]) -> None:
        self._loop = loop
        self._heard = heard
        self._conversations: dict[int, Conversation] = {}

    def send(self, child: Child, value: Any) -> None:
        """Tell the application in a worker. Raises TypeError, ValueError, QueueFull and Disconnected."""
        self._with(child).send(value)

    def received(self, child: Child, message: Say | Taken) -> None:
        """A worker has said something for whoever talks to its application."""
        self._with(child).received(message)

    def ended(self, child: Child) -> None:
        """A worker is gone."""
        if conversation := self._conversations.pop(child.serial, None):
            conversation.end()

    def _with(self, child: Child) -> Conversation:
        conversation = self._conversations.get(child.serial)
        if conversation is None:
            if child.channel is None:
                raise Disconnected(f"worker {child.slot} (pid {child.pid}) is gone")
            conversation = self._conversations[child.serial] = Conversation()
            conversation.attach(child.channel, self._loop, lambda incoming: self._heard(child, incoming))
        return conversation

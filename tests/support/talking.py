"""Two ends of a conversation on one loop."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from clusterd.wire.channel import Channel, Received
from clusterd.wire.conversation import Conversation, Incoming
from clusterd.wire.messages import Ack, AppMessage
from clusterd.wire.packets import socketpair

PATIENCE_SECONDS = 60.0

Deliver = Callable[[Incoming], None]


def on_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """A test that is a coroutine."""

    @functools.wraps(test)
    def run() -> None:
        asyncio.run(test())

    return run


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until then."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)


class Heard:
    """What one end was told, and dealt with at once."""

    def __init__(self) -> None:
        self.values: list[object] = []
        self._news = asyncio.Event()

    def deliver(self, incoming: Incoming) -> None:
        self.values.append(incoming.value)
        incoming.taken()
        self._news.set()

    async def wait_for(self, count: int) -> list[object]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.values) < count:
                self._news.clear()
                await self._news.wait()
        return self.values


def unheard(incoming: Incoming) -> None:
    raise AssertionError(f"nobody was to say {incoming.value!r}")


@asynccontextmanager
async def talking(
    ours: Conversation, deliver_ours: Deliver, theirs: Conversation, deliver_theirs: Deliver
) -> AsyncIterator[tuple[Channel, Channel]]:
    """Both ends attached to a pair of channels."""
    loop = asyncio.get_running_loop()
    channels = []
    for sock, conversation, deliver in zip(socketpair(), (ours, theirs), (deliver_ours, deliver_theirs), strict=True):
        channel = Channel(sock, loop, _receiver(conversation), _ender(conversation))
        conversation.attach(channel, loop, deliver)
        channels.append(channel)
    try:
        yield channels[0], channels[1]
    finally:
        for channel in channels:
            channel.close()


def _receiver(conversation: Conversation) -> Callable[[Received], None]:
    def receive(received: Received) -> None:
        assert isinstance(received.message, AppMessage | Ack)
        conversation.received(received.message)

    return receive


def _ender(conversation: Conversation) -> Callable[[str], None]:
    return lambda _: conversation.end()

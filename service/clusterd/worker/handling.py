"""Calls the application's handlers for the messages that this worker receives.

Plain handlers run one after the other in a separate thread, or greenlet. Each async handler runs in a task on the event
loop. No handler delays a request, another worker or the master. The queue of the thread is bounded, because `send`
refuses the next message while MOST_WAITING of the sender's messages are unhandled (`wire/conversation.py`).
"""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeAlias

from clusterd.app import answers
from clusterd.app.application import is_async
from clusterd.app.signatures import name_of
from clusterd.log import Logger
from clusterd.runtime import originals
from clusterd.runtime.hub import Inbox, hub_in_use
from clusterd.runtime.threads import begin
from clusterd.wire.conversation import Incoming
from clusterd.worker.api import Handler

THREAD_NAME = "clusterd-messages"


class _Message:
    """A message, and the number of handlers that have not finished with it."""

    def __init__(self, incoming: Incoming, handlers: int) -> None:
        self.incoming = incoming
        self.left = handlers


_Queue: TypeAlias = "originals.SimpleQueue[tuple[_Message, Handler]] | Inbox[tuple[_Message, Handler]]"


class Handling:
    """Created after the fork. `deliver` is called on the loop's thread."""

    def __init__(self, handlers: Sequence[Handler], loop: asyncio.AbstractEventLoop, log: Logger) -> None:
        self._handlers = handlers
        self._loop = loop
        self._log = log
        self._unhandled = 0
        self._finished: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._hub = hub = hub_in_use()
        self._waiting: _Queue = originals.SimpleQueue() if hub is None else Inbox(hub)
        self._is_started = False
        self._lack_is_known = False
        """Whether the lack of a handler has been logged."""

    def deliver(self, incoming: Incoming) -> None:
        """Have every handler called with a message."""
        handlers = tuple(self._handlers)
        if not handlers:
            self._say_that_there_is_none(incoming)
            return
        message = _Message(incoming, len(handlers))
        self._unhandled += 1
        for handler in handlers:
            if is_async(handler):
                task = self._loop.create_task(self._call_async(message, handler))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                self._start_thread()
                self._waiting.put((message, handler))

    @property
    def unhandled(self) -> int:
        """Number of messages that handlers have not finished with."""
        return self._unhandled

    async def finished(self) -> None:
        """Wait until the handlers have finished with every delivered message."""
        if self._unhandled:
            self._finished = self._loop.create_future()
            await self._finished

    def _say_that_there_is_none(self, incoming: Incoming) -> None:
        if incoming.wants_reply:
            incoming.refuse('the application has no handler: it registers one with @worker.on("message")')
        elif not self._lack_is_known:
            self._lack_is_known = True
            self._log.warning('a message came, and the application has no handler: @worker.on("message") registers one')
        incoming.taken()

    # ---- one call

    def _start_thread(self) -> None:
        if not self._is_started:
            self._is_started = True
            begin(self._call_all, THREAD_NAME, self._hub)

    def _call_all(self) -> None:
        while True:
            message, handler = self._waiting.get()
            try:
                value = handler(message.incoming.value)
            except BaseException as error:  # Also SystemExit, which would end only this thread.
                self._failed(message, handler, error)
            else:
                self._answer(message, handler, value)
            self._loop.call_soon_threadsafe(self._through, message)

    async def _call_async(self, message: _Message, handler: Handler) -> None:
        try:
            value = await handler(message.incoming.value)
        except BaseException as error:
            self._failed(message, handler, error)
        else:
            self._answer(message, handler, value)
        self._through(message)

    def _answer(self, message: _Message, handler: Handler, value: Any) -> None:
        if self._is_to_answer(message, handler):
            answers.reply(message.incoming, value, _what(handler), self._log)

    def _failed(self, message: _Message, handler: Handler, error: BaseException) -> None:
        asked = message.incoming if self._is_to_answer(message, handler) else None
        answers.failed(asked, error, _what(handler), self._log)

    def _is_to_answer(self, message: _Message, handler: Handler) -> bool:
        return message.incoming.wants_reply and handler is self._handlers[0]

    def _through(self, message: _Message) -> None:
        """A handler has finished with a message. Called on the loop's thread."""
        message.left -= 1
        if message.left:
            return
        self._unhandled -= 1
        message.incoming.taken()
        if self._finished is not None and not self._unhandled and not self._finished.done():
            self._finished.set_result(None)


def _what(handler: Handler) -> str:
    return f"the handler {name_of(handler)} of a message"

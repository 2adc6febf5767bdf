"""The event loop of a worker."""

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import TypeVarTuple

import uvloop

from clusterd.runtime.hub import is_used

_Arguments = TypeVarTuple("_Arguments")


class ObservedLoop(uvloop.Loop):
    """Notes that a callback was scheduled, so that a thread that has the loop can leave it standing until then."""

    has_work = False

    def call_soon(
        self,
        callback: Callable[[*_Arguments], object],
        *args: *_Arguments,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Have `callback` called in the next turn."""
        self.has_work = True
        return super().call_soon(callback, *args, context=context)

    def run_forever(self) -> None:
        """Run until `stop`."""
        self.has_work = False
        super().run_forever()


def has_work(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether something may have been scheduled since the loop has stopped. Not what uvloop itself has scheduled."""
    return not isinstance(loop, ObservedLoop) or loop.has_work


def new_event_loop(*, is_observed: bool = False) -> asyncio.AbstractEventLoop:
    """Make the loop, and make it the one that `asyncio.get_event_loop()` returns in the main thread.

    With gevent, the application's greenlets are in that thread and the loop runs in another one. They must not find it:
    what they gave it to do would not be safe, and it cannot be run until something is complete.

    An observed loop is slower for what schedules much.
    """
    loop = ObservedLoop() if is_observed and not is_used() else uvloop.new_event_loop()
    if not is_used():
        asyncio.set_event_loop(loop)
    return loop

"""The event loop of a worker."""

import asyncio

import uvloop

from clusterd.runtime.hub import is_used


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Make the loop, and make it the one that `asyncio.get_event_loop()` returns in the main thread.

    With gevent, the application's greenlets are in that thread and the loop runs in another one. They must not find it:
    what they gave it to do would not be safe, and it cannot be run until something is complete.
    """
    loop = uvloop.new_event_loop()
    if not is_used():
        asyncio.set_event_loop(loop)
    return loop

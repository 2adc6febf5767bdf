"""Hides the event loop from a WSGI application that it calls itself (`threads: 0`): no loop is seen to run.

So it may run one of its own (`asyncio.run`, asgiref's `async_to_sync`), and Django does not refuse its database.
asyncio knows the running loop of each thread. To change that around each call would cost a small request a quarter of
its time on Python 3.11 (two getpid(2)). Therefore no loop is shown to anything but the tasks of the loop. They are few
here: handlers of messages.
"""

import asyncio
import types
from asyncio import _set_running_loop
from collections.abc import Coroutine, Generator
from typing import Any


def hide(loop: asyncio.AbstractEventLoop) -> None:
    """Show `loop`, which is about to run, to its tasks only."""
    loop.set_task_factory(_shown_task)
    loop.call_soon(_set_running_loop, None)


def _shown_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any], **settings: Any
) -> "asyncio.Task[Any]":
    return asyncio.Task(_showing(loop, coroutine), loop=loop, **settings)


@types.coroutine
def _showing(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any]
) -> Generator[Any, Any, Any]:
    """Run a coroutine in which `loop` is seen to run."""
    step, value = coroutine.send, None
    while True:
        _set_running_loop(loop)
        try:
            awaited = step(value)
        except StopIteration as end:
            return end.value
        finally:
            _set_running_loop(None)
        try:
            value, step = (yield awaited), coroutine.send
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as error:  # The task is cancelled, or what it awaited has failed.
            value, step = error, coroutine.throw


def started(coroutine: Any) -> Any:
    """Return the coroutine that a task was started with. For stacks, where `_showing` would be in its place."""
    frame = getattr(coroutine, "gi_frame", None)
    if frame is None or frame.f_code is not _showing.__code__:
        return coroutine
    return frame.f_locals["coroutine"]

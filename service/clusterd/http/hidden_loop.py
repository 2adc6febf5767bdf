"""Hides the event loop from a WSGI application that it calls itself (`threads: 0`): no loop is seen to run.

So it may run one of its own (`asyncio.run`, asgiref's `async_to_sync`), and Django does not refuse its database.
asyncio knows the running loop of each thread. To change that around each call would cost a small request a quarter of
its time on Python 3.11 (two getpid(2)). Therefore no loop is shown to anything but the tasks of the loop. They are few
here: handlers of messages. From Python 3.14 on, asyncio runs tasks only where their loop is seen to run. There the
change costs next to nothing, and is made around each call.
"""

import asyncio
import sys
from asyncio import _get_running_loop, _set_running_loop
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any

IS_SHOWN = sys.version_info >= (3, 14)
"""Whether the loop is seen to run except in calls of the application. Otherwise only tasks see it."""


def hide(loop: asyncio.AbstractEventLoop) -> None:
    """Show `loop`, which is about to run, to its tasks only, if that is the way."""
    if not IS_SHOWN:
        loop.set_task_factory(_shown_task)
        loop.call_soon(_set_running_loop, None)


def unseen(call: Callable[[], None]) -> None:
    """Make a call of the application in which no loop is seen to run, where one is."""
    loop = _get_running_loop()
    _set_running_loop(None)
    try:
        call()
    finally:
        _set_running_loop(loop)


def _shown_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any], **settings: Any
) -> "asyncio.Task[Any]":
    return asyncio.Task(_Showing(loop, coroutine), loop=loop, **settings)


class _Showing(Coroutine[Any, Any, Any]):
    """A coroutine in which `loop` is seen to run."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any]
    ) -> None:
        self._loop = loop
        self.coroutine = coroutine

    def __getattr__(self, name: str) -> Any:
        """Return what else is known of the coroutine: its name, its frame, what it awaits."""
        return getattr(self.coroutine, name)

    def __await__(self) -> Generator[Any, Any, Any]:
        raise TypeError("it is in a task, and awaited as one")

    def send(self, value: Any) -> Any:
        """Run it until it awaits something. Raises StopIteration when it is over."""
        before = self._show()
        try:
            return self.coroutine.send(value)
        finally:
            _set_running_loop(before)

    def throw(
        self,
        kind: type[BaseException] | BaseException,
        value: BaseException | object = None,
        traceback: TracebackType | None = None,
    ) -> Any:
        """Raise an exception in it: the task is cancelled, or what it awaited has failed."""
        before = self._show()
        try:
            if isinstance(kind, BaseException):
                return self.coroutine.throw(kind)
            return self.coroutine.throw(kind, value, traceback)
        finally:
            _set_running_loop(before)

    def _show(self) -> asyncio.AbstractEventLoop | None:
        """Return what was seen before: another task, if that has started this one eagerly."""
        before = _get_running_loop()
        _set_running_loop(self._loop)
        return before

    def close(self) -> None:
        """End it where it waits."""
        self.coroutine.close()


def started(coroutine: Any) -> Any:
    """Return the coroutine that a task was started with. For stacks, where `_Showing` would be in its place."""
    return coroutine.coroutine if isinstance(coroutine, _Showing) else coroutine

"""What a worker is doing, in words: its requests, its threads, and the tasks of its loop."""

import asyncio
import gc
import sys
import threading
import traceback
from collections.abc import Coroutine, Generator, Iterator
from typing import Any

from clusterd.http.engine import InFlight

MOST_CHARACTERS = 40_000
"""What fits a message, however much of it is escaped."""


def describe(requests: list[InFlight], loop: asyncio.AbstractEventLoop) -> str:
    """For people. To be called on the loop's thread."""
    lines = [*_requests(requests), *_threads(), *_tasks(loop)]
    text = "\n".join(lines)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}\n... and more"


def _requests(requests: list[InFlight]) -> Iterator[str]:
    for request in requests:
        yield f"Request {request.method} {request.target} ({request.phase}, for {request.age:.3f} s)"


def _threads() -> Iterator[str]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():  # noqa: SLF001 - documented, for exactly this
        if ident == threading.get_ident():
            yield f"Thread {names.get(ident, ident)} runs the event loop"
            continue
        yield f"Thread {names.get(ident, ident)} (most recent call last):"
        yield "".join(traceback.format_stack(frame)).rstrip()


def _tasks(loop: asyncio.AbstractEventLoop) -> Iterator[str]:
    for task in sorted(asyncio.all_tasks(loop), key=asyncio.Task.get_name):
        coroutine = task.get_coro()
        yield f"Task {task.get_name()} {getattr(coroutine, '__qualname__', coroutine)} (most recent call last):"
        yield from _awaited(coroutine)


def _awaited(coroutine: Any) -> Iterator[str]:
    """asyncio tells the outermost frame of a task that waits: what it waits for is found from one to the next."""
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            yield "".join(traceback.format_stack(frame, limit=1)).rstrip()
        coroutine = _awaited_by(coroutine)


def _awaited_by(coroutine: Any) -> Any:
    """What it waits for, None where that is no coroutine.

    A coroutine of the compiled engine has neither a frame nor an attribute for it, and holds it like anything else,
    or what its `__await__` gave.
    """
    if hasattr(coroutine, "cr_await"):
        return coroutine.cr_await
    if hasattr(coroutine, "gi_yieldfrom"):
        return coroutine.gi_yieldfrom
    held = (value for value in gc.get_referents(coroutine) if isinstance(value, (Coroutine, Generator)))
    return next(held, None)

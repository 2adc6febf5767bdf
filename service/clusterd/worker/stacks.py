"""Describes what a worker is doing: its requests, its threads, and the tasks of its event loop."""

import asyncio
import gc
import sys
import threading
import traceback
from collections.abc import Coroutine, Generator, Iterator
from typing import Any

from clusterd.http.engine import InFlight
from clusterd.http.hidden_loop import started

MOST_CHARACTERS = 40_000
"""Fits one message even if every character is escaped in JSON."""


def describe(requests: list[InFlight], loop: asyncio.AbstractEventLoop) -> str:
    """Return the text, for operators. To be called on the loop's thread."""
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
        coroutine = started(task.get_coro())
        yield f"Task {task.get_name()} {getattr(coroutine, '__qualname__', coroutine)} (most recent call last):"
        yield from _awaited(coroutine)


def _awaited(coroutine: Any) -> Iterator[str]:
    """Yield the frames of a waiting coroutine and of what it awaits. asyncio only reports the outermost frame."""
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            yield "".join(traceback.format_stack(frame, limit=1)).rstrip()
        coroutine = _awaited_by(coroutine)


def _awaited_by(coroutine: Any) -> Any:
    """Return the coroutine that `coroutine` awaits, or None if it awaits something else.

    A coroutine of the compiled engine has neither a frame nor an attribute for it. It only references the awaited
    coroutine, or the result of its `__await__`, like any other object.
    """
    if hasattr(coroutine, "cr_await"):
        return coroutine.cr_await
    if hasattr(coroutine, "gi_yieldfrom"):
        return coroutine.gi_yieldfrom
    held = (value for value in gc.get_referents(coroutine) if isinstance(value, (Coroutine, Generator)))
    return next(held, None)

"""Describes what a worker is doing: its requests, its threads, its greenlets, and the tasks of its event loop."""

import asyncio
import sys
import threading
import traceback
from collections.abc import Iterator

from clusterd.http.engine import InFlight
from clusterd.http.hidden_loop import started
from clusterd.process.where import awaited_frames
from clusterd.runtime import originals
from clusterd.runtime.hub import greenlets

MOST_CHARACTERS = 40_000
"""Fits one message even if every character is escaped in JSON."""


def describe(requests: list[InFlight], loop: asyncio.AbstractEventLoop) -> str:
    """Return the text, for operators. To be called on the loop's thread."""
    lines = [*_requests(requests), *_threads(), *_greenlets(), *_tasks(loop)]
    text = "\n".join(lines)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}\n... and more"


def _requests(requests: list[InFlight]) -> Iterator[str]:
    for request in requests:
        yield f"Request {request.method} {request.target} ({request.phase}, for {request.age:.3f} s)"


def _threads() -> Iterator[str]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():  # noqa: SLF001 - documented, for exactly this
        if ident == originals.get_ident():
            yield f"Thread {names.get(ident, ident)} runs the event loop"
            continue
        yield f"Thread {names.get(ident, ident)} (most recent call last):"
        yield "".join(traceback.format_stack(frame)).rstrip()


def _greenlets() -> Iterator[str]:
    for greenlet in greenlets():
        if (frame := greenlet.gr_frame) is not None:  # None where it has not begun, or is the one that runs.
            yield f"Greenlet {greenlet.name} (most recent call last):"
            yield "".join(traceback.format_stack(frame)).rstrip()


def _tasks(loop: asyncio.AbstractEventLoop) -> Iterator[str]:
    for task in sorted(asyncio.all_tasks(loop), key=asyncio.Task.get_name):
        coroutine = started(task.get_coro())
        yield f"Task {task.get_name()} {getattr(coroutine, '__qualname__', coroutine)} (most recent call last):"
        for frame in awaited_frames(coroutine):
            yield "".join(traceback.format_stack(frame, limit=1)).rstrip()

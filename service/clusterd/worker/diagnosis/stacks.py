"""Describes what a worker is doing: its requests, its threads, its greenlets, and the tasks of its event loop."""

import asyncio
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any

from clusterd.http.engine import InFlight
from clusterd.http.hidden_loop import started
from clusterd.http.wsgi.on_loop import ROOT_TASK
from clusterd.process.where import awaited_frames
from clusterd.runtime import originals
from clusterd.runtime.hub import greenlets

MOST_CHARACTERS = 40_000
"""Fits one message even if every character is escaped in JSON."""


def describe(requests: list[InFlight], loop: asyncio.AbstractEventLoop) -> str:
    """Return the text, for operators. To be called on the loop's thread."""
    runs = {each.runs_in: f", which runs {_name(each)}" for each in requests if each.runs_in is not None}
    lines = [*_requests(requests), *_threads(runs), *_greenlets(runs), *_tasks(loop, runs)]
    text = "\n".join(lines)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}\n... and more"


def _requests(requests: list[InFlight]) -> Iterator[str]:
    for request in requests:
        yield f"Request {_name(request)} ({request.phase}, for {request.age:.3f} s)"


def _name(request: InFlight) -> str:
    return f"{request.method} {request.target}"


def stack_of(runs_in: object) -> str:
    """Return the stack of a thread by its identifier, of a greenlet or of a task; empty if it has none."""
    if isinstance(runs_in, int):
        frame = sys._current_frames().get(runs_in)  # noqa: SLF001 - documented, for exactly this
        return "" if frame is None else _stack(frame)
    if isinstance(runs_in, asyncio.Task):
        return _awaited(started(runs_in.get_coro()))
    frame = getattr(runs_in, "gr_frame", None)
    return "" if frame is None else _stack(frame)


def _stack(frame: FrameType) -> str:
    return "".join(traceback.format_stack(frame)).rstrip()


def _awaited(coroutine: Any) -> str:
    return "".join("".join(traceback.format_stack(frame, limit=1)) for frame in awaited_frames(coroutine)).rstrip()


def _threads(runs: dict[object, str]) -> Iterator[str]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():  # noqa: SLF001 - documented, for exactly this
        if ident == originals.get_ident():
            yield f"Thread {names.get(ident, ident)} runs the event loop"
            continue
        yield f"Thread {names.get(ident, ident)}{runs.get(ident, '')} (most recent call last):"
        yield _stack(frame)


def _greenlets(runs: dict[object, str]) -> Iterator[str]:
    for greenlet in greenlets():
        if (frame := greenlet.gr_frame) is not None:  # None where it has not begun, or is the one that runs.
            yield f"Greenlet {greenlet.name}{runs.get(greenlet, '')} (most recent call last):"
            yield _stack(frame)


def _tasks(loop: asyncio.AbstractEventLoop, runs: dict[object, str]) -> Iterator[str]:
    for task in sorted(asyncio.all_tasks(loop), key=asyncio.Task.get_name):
        if task.get_name() == ROOT_TASK:
            continue
        coroutine = started(task.get_coro())
        name = getattr(coroutine, "__qualname__", coroutine)
        yield f"Task {task.get_name()} {name}{runs.get(task, '')} (most recent call last):"
        if stack := _awaited(coroutine):
            yield stack

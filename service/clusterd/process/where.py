"""Where a thread or a task is in its code, for logs."""

import asyncio
import gc
import sys
import threading
import traceback
from collections.abc import Coroutine, Generator, Iterator
from types import FrameType, TracebackType
from typing import Any

from clusterd.log.tracebacks import is_ours, is_standard
from clusterd.runtime.hub import greenlet_of


def where_thread_is(thread: threading.Thread) -> str:
    """The innermost line of the application's code that the thread, or the greenlet in its place, runs."""
    if (greenlet := greenlet_of(thread)) is not None:
        return where_greenlet_is(greenlet)
    frame = sys._current_frames().get(thread.ident or 0)
    return "unknown" if frame is None else _innermost(traceback.extract_stack(frame))


def where_greenlet_is(greenlet: Any) -> str:
    """The innermost line of the application's code that the greenlet is to go on with."""
    frame = greenlet.gr_frame
    return "running" if frame is None else _innermost(traceback.extract_stack(frame))


def where_task_is(task: "asyncio.Task[Any]") -> str:
    """The innermost line at which the task waits."""
    frames = ((frame, frame.f_lineno) for frame in awaited_frames(task.get_coro()))
    return _innermost(traceback.StackSummary.extract(frames))


def where_traceback_ends(found: TracebackType | None) -> str:
    """The innermost line of the application's code in a traceback."""
    return _innermost(traceback.extract_tb(found))


def awaited_frames(coroutine: Any) -> Iterator[FrameType]:
    """Yield the frames of a waiting coroutine and of what it awaits. asyncio only reports the outermost frame."""
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            yield frame
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


def _innermost(stack: traceback.StackSummary) -> str:
    """The last line that is the application's. The standard library mostly waits there for it, as do gevent and we."""
    own = [frame for frame in stack if not _is_anothers(frame.filename)] or list(stack)
    return f"{own[-1].filename}:{own[-1].lineno} in {own[-1].name}" if own else "unknown"


def _is_anothers(path: str) -> bool:
    is_gevents = path.startswith("src/gevent/") or "-packages/gevent/" in path  # The first is what Cython has compiled.
    return path.startswith("<") or is_gevents or is_ours(path) or is_standard(path)

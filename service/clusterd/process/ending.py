"""The orderly end of a process that has run an application: its tasks, its threads, its exit handlers and its files.

The steps are those of a Python program that ends, in the same order. The last one is _exit(2): to take down the modules
would write to every page that the process shares with its template and with the other workers.
"""

import asyncio
import atexit
import os
import re
import sys
import threading
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import Any, NoReturn

from clusterd.log import Logger
from clusterd.process.files import flush_files
from clusterd.process.fork_hygiene import flush_output
from clusterd.process.time_limit import MOMENT_SECONDS, OutOfTime, interrupted
from clusterd.process.where import where_greenlet_is, where_task_is, where_thread_is, where_traceback_ends
from clusterd.runtime import originals
from clusterd.runtime.event_loop import can_run_here
from clusterd.runtime.hub import Hub, beside, hub_in_use, is_of_request
from clusterd.runtime.threads import CallingThread

LOOK_SECONDS = 0.05
"""The time between two attempts to have a loop turn that lacks descriptors."""
LEAST_SECONDS = 1.0
"""The least time for all steps together, also if the drain has used up its time."""


class Ending:
    """The end of this process, in the main thread. Each step takes until `until`, by time.monotonic(), at most.

    What does not end by then is logged, and cut.
    """

    def __init__(self, until: float, log: Logger) -> None:
        self._until = max(until, monotonic() + LEAST_SECONDS)
        self._log = log
        self._hub = hub_in_use()
        if self._hub is not None:
            self._hub.pass_on(OutOfTime)

    def call(self, function: Callable[[], object], what: str) -> None:
        """Call a function of the application. Raises what it raises."""
        if interrupted(function, self._until):
            self._log.warning(f"{what} was cut: it did not return in time")

    def run(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, object], what: str) -> None:
        """Run the loop until the coroutine has returned. Raises what it raises."""
        task = loop.create_task(coroutine)
        self._turn(loop, [task])
        if task.done():
            task.result()
        else:
            self._log.warning(f"{what} was cut: it did not end in time", where=where_task_is(task))

    def cancel(self, loop: asyncio.AbstractEventLoop, tasks: Collection[asyncio.Task[Any]]) -> None:
        """Cancel the tasks, and wait for their end."""
        for task in tasks:
            task.cancel()
        self._turn(loop, tasks)
        for task in tasks:
            if not task.done():
                self._log.warning(f"the task {task.get_name()} was cut: it does not end", where=where_task_is(task))
            elif not task.cancelled() and (error := task.exception()) is not None:
                context = {"message": "a task failed when it was cancelled", "exception": error, "task": task}
                loop.call_exception_handler(context)

    def end_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """End what the application has left on the loop, as `asyncio.run` does."""
        self.cancel(loop, asyncio.all_tasks(loop))
        self.run(loop, loop.shutdown_asyncgens(), "an async generator")
        self.run(loop, loop.shutdown_default_executor(), "a job of run_in_executor")

    def leave(self, status: int, at_last: Callable[[], object] | None = None) -> NoReturn:
        """End the threads, run the exit handlers, write what is buffered, and exit.

        `at_last` is called when nothing but the exit is left to do.
        """
        if self._hub is None:
            self._join_threads()
        elif self._hub.has_turned:  # Not in a template: it would begin what the import has spawned for the workers.
            self._join_threads()
            self._join_greenlets(self._hub)
        self._run_exit_handlers()
        interrupted(flush_files, self._until)
        interrupted(flush_output, self._until)
        if at_last is not None:
            at_last()
        self._log.finish()
        os._exit(status)

    def _turn(self, loop: asyncio.AbstractEventLoop, tasks: Collection[asyncio.Task[Any]]) -> None:
        if tasks and self._has_descriptors():
            left = max(MOMENT_SECONDS, self._until - monotonic())
            # The moment more is for what blocks the loop.
            wait = asyncio.wait(tasks, timeout=left)
            turn = partial(beside, self._hub, partial(loop.run_until_complete, wait))
            interrupted(turn, monotonic() + left + MOMENT_SECONDS)

    def _has_descriptors(self) -> bool:
        """Wait for the two with which a loop of uvloop begins to turn: one that lacks them never turns again."""
        while not can_run_here():
            if monotonic() >= self._until:
                self._log.warning("the event loop cannot turn any more: Too many open files")
                return False
            originals.select([], [], [], LOOK_SECONDS)
        return True

    def _join_threads(self) -> None:
        """Wait for the threads, as Python does, and for those of every ThreadPoolExecutor.

        `threading._shutdown` first calls what `concurrent.futures` has registered to end its threads. To join them
        before would wait for ever.
        """
        shut_down: Callable[[], None] = threading._shutdown  # type: ignore[attr-defined]
        with _cuts_told_to(lambda _: None):  # From Python 3.13 on, each join that is cut would write a traceback.
            interrupted(shut_down, self._until)
        for thread in threading.enumerate():
            is_ours = isinstance(thread, CallingThread) or thread is threading.main_thread()
            if not thread.daemon and not is_ours:
                self._log.warning(f"the thread {thread.name} was cut: it does not end", where=where_thread_is(thread))

    def _join_greenlets(self, hub: Hub) -> None:
        """Wait for the greenlets, and end what does not end."""
        left = hub.join(max(MOMENT_SECONDS, self._until - monotonic()))
        for greenlet in left:
            if not is_of_request(greenlet):  # The drain has logged the requests that it has cut.
                where = where_greenlet_is(greenlet)
                self._log.warning(f"the greenlet {greenlet.name} was cut: it does not end", where=where)
        hub.kill(left, MOMENT_SECONDS)

    def _run_exit_handlers(self) -> None:
        """Run the handlers in reverse order. An error of one does not keep the others from running."""

        def tell(unraisable: "sys.UnraisableHookArgs") -> None:
            handler, where = name_of_exit_handler(unraisable), where_traceback_ends(unraisable.exc_traceback)
            self._log.warning(f"the exit handler {handler} was cut: it did not return in time", where=where)

        with _cuts_told_to(tell):
            interrupted(atexit._run_exitfuncs, self._until)


@contextmanager
def _cuts_told_to(tell: Callable[["sys.UnraisableHookArgs"], object]) -> Iterator[None]:
    """Have `tell` called, and no traceback written, where a call that is cut does not let OutOfTime through."""
    written = sys.unraisablehook

    def note(unraisable: "sys.UnraisableHookArgs") -> None:
        if isinstance(unraisable.exc_value, OutOfTime):
            tell(unraisable)
        else:
            written(unraisable)

    sys.unraisablehook = note
    try:
        yield
    finally:
        sys.unraisablehook = written


def name_of_exit_handler(unraisable: "sys.UnraisableHookArgs") -> str:
    """The name of the handler that has raised an error. From Python 3.13 on, only the message has it."""
    if unraisable.object is not None:
        return str(getattr(unraisable.object, "__qualname__", unraisable.object))
    described = (unraisable.err_msg or "").removeprefix("Exception ignored in atexit callback ")
    named = re.search(r"<(?:function|bound method|built-in method|built-in function) (\S+)", described)
    return named[1] if named else described

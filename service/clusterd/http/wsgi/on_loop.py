"""The loop's own thread as what calls the application: ASGI, and WSGI with `threads: 0`."""

import asyncio
from collections.abc import Callable

from clusterd.http.wsgi.runner import Runners

ROOT_TASK = "clusterd"
"""The name of the task for which the loop of an ASGI application runs."""


class OnLoop(Runners):
    """Used in place of a pool if the loop's thread calls the application. It is free whenever it can be asked.

    `prepare` is called with the loop before it runs.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, prepare: Callable[[asyncio.AbstractEventLoop], object] | None = None
    ) -> None:
        self._loop = loop
        self._prepare = prepare

    @property
    def busy(self) -> int:
        """0: a call is over before this can be read."""
        return 0

    @property
    def free(self) -> int:
        """1, for the same reason."""
        return 1

    @property
    def waiting(self) -> int:
        """0: no call waits."""
        return 0

    def run(self) -> None:
        """Run the event loop until `leave`."""
        if self._prepare is not None:
            self._prepare(self._loop)
        self._loop.run_forever()

    def leave(self) -> None:
        """Make `run` return."""
        self._loop.stop()

    def progress(self, now: float) -> float:
        """Return `now`: the progress of the loop is watched by its heartbeat."""
        return now

    def stop(self, _: float) -> bool:
        """Do nothing: there are no threads to end."""
        return True


class OnLoopInTask(OnLoop):
    """Runs the loop for a task that is done when it is left, as asyncio.run does.

    AnyIO, and so Starlette and FastAPI, looks for such a task and keeps its threads while that lives: without one, each
    call of a function that is not async had a thread of its own.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._left = loop.create_future()

    def run(self) -> None:
        """Run the event loop until `leave`."""
        task = asyncio.Task(self._until_left(), loop=self._loop, name=ROOT_TASK)
        try:
            self._loop.run_until_complete(task)
        except RuntimeError:
            if task.done():
                raise
            # The application has stopped the loop. That is taken for `leave`.
        finally:
            self.leave()

    def leave(self) -> None:
        """Make `run` return."""
        if not self._left.done():
            self._left.set_result(None)

    async def _until_left(self) -> None:
        while not self._left.done():
            try:
                await asyncio.shield(self._left)
            except asyncio.CancelledError:
                continue  # By an application that cancels all tasks.

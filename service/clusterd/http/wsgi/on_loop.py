"""The loop's own thread as what calls the application (`threads: 0`)."""

import asyncio
from collections.abc import Callable

from clusterd.http.wsgi.runner import Runners


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

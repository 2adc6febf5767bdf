"""Threads in which the application is called."""

import threading
from collections.abc import Callable


class CallingThread(threading.Thread):
    """A thread that calls the application. It does not keep the process alive: the call may never return.

    A thread that the application begins in it does, as anywhere else, unless it is told to be a daemon. `threading` has
    new threads inherit that from the thread that makes them, and looks at this one's own when it starts.
    """

    def __init__(self, target: Callable[[], object], name: str) -> None:
        super().__init__(target=target, name=name)
        self._calls = False

    @property
    def daemon(self) -> bool:  # type: ignore[override]  # it is not for others to set
        """Whether the process may end without this thread; while it calls, what its children inherit."""
        return not self._calls

    def run(self) -> None:
        """Call the target."""
        self._calls = True
        super().run()

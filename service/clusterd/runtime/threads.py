"""Threads in which the application is called."""

import threading
from collections.abc import Callable

from clusterd.runtime import originals
from clusterd.runtime.hub import Hub, is_used


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


def begin(call: Callable[[], object], name: str, hub: Hub | None) -> None:
    """Call the application in a thread of its own or, with a hub, in a greenlet."""
    if hub is None:
        CallingThread(call, name).start()
    else:
        hub.spawn(call)


def begin_natively(call: Callable[[], object], name: str) -> Callable[[float], bool]:
    """Call the application in a thread of its own, also where greenlets have taken the place of threads.

    Returns a function that waits for the end, up to so many seconds, and returns whether it has come.
    """
    ended = originals.Lock()
    ended.acquire()

    def run() -> None:
        try:
            call()
        finally:
            ended.release()

    if is_used():
        originals.start_new_thread(run, ())
    else:
        CallingThread(run, name).start()
    return lambda seconds: ended.acquire(timeout=seconds)

"""gevent's hub in the main thread, where the application has replaced threads by greenlets (`monkey.patch_all()`).

As under any server for gevent, the application's code runs in greenlets of the main thread, and the hub switches
between them. clusterd's event loop would block that thread and all greenlets with it. It therefore runs in a native
thread beside the hub.

Nothing here imports gevent: it is the application's, and need not be installed.
"""

import gc
import sys
import threading
import traceback
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, NoReturn, TypeVar

from clusterd.runtime import originals

_Result = TypeVar("_Result")
_Item = TypeVar("_Item")


_background: "weakref.WeakSet[Any]" = weakref.WeakSet()
"""The greenlets that the import or `worker_start` has spawned. They work for as long as the worker does."""

_calls: "weakref.WeakSet[Any]" = weakref.WeakSet()
"""The greenlets in which clusterd calls the application for something else than a request."""


def is_used() -> bool:
    """Whether the application has replaced threads by greenlets."""
    monkey: Any = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def begin_after_fork() -> None:
    """Make the hub that was inherited, if there is one, usable in this process. To be called in it at once."""
    gevent: Any = sys.modules.get("gevent")
    if gevent is not None:
        gevent.reinit()


def descriptors_of_hub() -> frozenset[int]:
    """The descriptors that a hub replaces after a fork. To be called in the main thread."""
    hub = _existing_hub()
    return frozenset() if hub is None else frozenset({hub.loop.fileno()})


def pool_threads_of_hub() -> int:
    """The number of native threads that a hub has for look-ups of names and the like, and begins anew after a fork."""
    pool = getattr(_existing_hub(), "_threadpool", None)
    return 0 if pool is None else pool.size


def _existing_hub() -> Any:
    local: Any = sys.modules.get("gevent._hub_local")
    return None if local is None else local.get_hub_if_exists()


def note_background() -> None:
    """Note which greenlets there are. To be called after the application's import, and after `worker_start`."""
    _background.update(greenlets())


def wait_for_threads_of_greenlets() -> None:
    """Have a thread that a greenlet begins be one that the process waits for, unless it is told to be a daemon.

    New threads inherit that from the thread that makes them. A greenlet stands for one that Python has not made, and
    these are daemons (`threading._DummyThread`): what a request began would be lost with the worker. So each is none
    when it asks for itself, as `threading.Thread` does. To others it is a daemon, as there is nothing to wait for.
    """
    module: Any = threading
    module._DummyThread = _greenlets_thread(module._DummyThread)  # noqa: SLF001 - the only place to tell it


def _greenlets_thread(kind: Any) -> Any:
    main = originals.get_ident()

    def is_daemon(self: Any) -> bool:
        return originals.get_ident() != main or threading.current_thread() is not self

    return type(kind.__name__, (kind,), {"daemon": property(is_daemon)})


def greenlets() -> list[Any]:
    """The greenlets (gevent.Greenlet) that the application has spawned since it has started and that are not over.

    Those of `threading` are not among them: they are threads to the application.
    """
    if not is_used():
        return []
    kind = sys.modules["gevent"].Greenlet
    threads = {thread.ident for thread in threading.enumerate()}
    # By type(), because a proxy of the application may run code of it when it is asked for its class.
    found = [each for each in gc.get_objects() if issubclass(type(each), kind) and not each.dead]
    return [each for each in found if id(each) not in threads and each not in _background and each not in _calls]


def is_of_request(greenlet: Any) -> bool:
    """Whether clusterd has spawned the greenlet for a request."""
    return hasattr(greenlet, "is_of_request")


def this_greenlet() -> Any:
    """Return the greenlet that runs; None where greenlets are not used."""
    return sys.modules["greenlet"].getcurrent() if is_used() else None


def rest() -> NoReturn:
    """Switch to other greenlets, for ever."""
    event: Any = sys.modules["gevent.event"]
    while True:
        event.Event().wait()


def greenlet_of(thread: threading.Thread) -> Any:
    """Return the greenlet that stands for the thread; None if it is a real one, or is over."""
    if not is_used():
        return None
    kind = sys.modules["greenlet"].greenlet
    return next((each for each in gc.get_objects() if id(each) == thread.ident and issubclass(type(each), kind)), None)


def hub_in_use() -> "Hub | None":
    """Return the main thread's hub if the application has replaced threads. To be called in the main thread."""
    return Hub() if is_used() else None


def beside(hub: "Hub | None", call: Callable[[], _Result]) -> _Result:
    """Call what blocks the thread, such as a run of the event loop. With a hub, its greenlets go on meanwhile."""
    return call() if hub is None else hub.beside(call)


class Hub:
    """The hub of the thread that creates this object, which is the main thread."""

    def __init__(self) -> None:
        self._gevent: Any = sys.modules["gevent"]
        self._hub = self._gevent.get_hub()
        # os.fork() of gevent does it after the fork, and so never learns of the end of a child that was faster.
        self._hub.loop.install_sigchld()

    @property
    def has_turned(self) -> bool:
        """Whether a greenlet has been able to begin."""
        return bool(self._hub)

    def spawn(self, call: Callable[[], object]) -> None:
        """Have it called in a greenlet of its own. May be called in any thread."""
        self.call_soon(lambda: _calls.add(self._gevent.spawn(call)))

    def call_soon(self, call: Callable[[], object]) -> None:
        """Have it called by the hub itself, so it must not block. May be called in any thread."""
        self._hub.loop.run_callback_threadsafe(call)

    def spawn_here(self, call: Callable[..., object], *arguments: object) -> None:
        """Have a request's call made in a greenlet of its own, as if the program had just begun. For the hub's thread
        only.
        """
        # Otherwise it would share them with the greenlet or the hub that spawns it, and so with other requests.
        spawned = self._gevent.spawn(call, *arguments)
        spawned.spawn_tree_locals = {}
        spawned.is_of_request = True

    def beside(self, call: Callable[[], _Result]) -> _Result:
        """Call it in a native thread, and turn the hub until it has returned. Raises what it raises."""
        ended: Any = sys.modules["gevent.event"].Event()
        watcher = self._hub.loop.async_()
        watcher.start(ended.set)
        outcome: list[_Result] = []
        raised: list[BaseException] = []

        def make() -> None:
            try:
                outcome.append(call())
            except BaseException as error:
                raised.append(error)
            watcher.send()

        originals.start_new_thread(make, ())
        try:
            while not ended.is_set():
                _wait_on(ended)
        finally:
            watcher.close()
        if raised:
            raise raised[0]
        return outcome[0]

    def pass_on(self, kind: type[BaseException]) -> None:
        """Have such an exception raised in the main greenlet, whatever it is raised in, and do not print it.

        The handler of a signal raises it in whatever runs by then: mostly the hub, which waits for all greenlets.
        """
        self._hub.NOT_ERROR = (*self._hub.NOT_ERROR, kind)
        self._hub.SYSTEM_ERROR = (*self._hub.SYSTEM_ERROR, kind)

    def new_signal(self) -> "Signal":
        """Return a signal from another thread to a greenlet of this hub."""
        return Signal(self)

    def join(self, seconds: float) -> list[Any]:
        """Wait for the end of the application's greenlets, and return those that have not ended."""
        waited = greenlets()
        self._gevent.joinall(waited, timeout=seconds)
        return [each for each in waited if not each.dead]

    def kill(self, greenlets: list[Any], seconds: float) -> None:
        """Raise GreenletExit in these and in those of the background, so that their `finally` runs, and wait for it."""
        self._gevent.killall([*greenlets, *_background], timeout=seconds)


def _wait_on(event: Any) -> None:
    """Wait, unless a greenlet exits. gevent raises that in the main greenlet, where it would end the process and every
    request in it. In a thread it ends the thread only.
    """
    try:
        event.wait()
    except (SystemExit, KeyboardInterrupt):
        traceback.print_exc()


class Signal:
    """Lets a greenlet wait for another thread."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._event: Any = sys.modules["gevent.event"].Event()

    def set(self) -> None:
        """Let the greenlet go on, or not wait at all. May be called in any thread."""
        self._hub.call_soon(self._event.set)

    def wait(self) -> None:
        """Switch to other greenlets until `set` was called."""
        self._event.wait()

    def clear(self) -> None:
        """Have the next `wait` wait for another `set`."""
        self._event.clear()


class Inbox(Generic[_Item]):
    """A queue from other threads to a greenlet. As `queue.SimpleQueue`, whose `get` would block the whole hub."""

    def __init__(self, hub: Hub) -> None:
        self._items: deque[_Item] = deque()
        self._has_some = hub.new_signal()

    def put(self, item: _Item) -> None:
        """Put an item into the queue. May be called in any thread."""
        self._items.append(item)
        self._has_some.set()

    def get(self) -> _Item:
        """Switch to other greenlets until there is an item, and return it."""
        while not self._items:
            self._has_some.wait()
            self._has_some.clear()
        return self._items.popleft()

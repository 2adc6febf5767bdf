"""`Cluster`: in the words of Node's module of that name, in Python's manner."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from clusterd.config.model import Config
from clusterd.config.worker_environment import checked_environment
from clusterd.config.written import nested, written
from clusterd.hooks.handle import Worker, broadcast
from clusterd.hooks.handlers import CLUSTER_EVENTS, NOT_YET, Handlers, Registry
from clusterd.linux.early_signals import hold_signals
from clusterd.log import Level, Logger, open_sink
from clusterd.wire.conversation import Reply
from clusterd.wire.values import encoded

if TYPE_CHECKING:
    from clusterd.cluster.primary import Primary
    from clusterd.master.context import MasterContext
    from clusterd.master.operations import Operations
    from clusterd.master.sockets.listeners import Listeners

HANDLERS_END_SECONDS = 5.0
"""For handlers to get through with what has happened, when the master is done."""

_OF_THE_CLUSTER = frozenset({"clusterd.template.process", "clusterd.hooks.process"})
"""What the processes run that a master starts."""
_AnyHandler = TypeVar("_AnyHandler", bound=Callable[..., Any])


class NotPrimaryError(RuntimeError):
    """A program that runs its cluster where it is imported as the application: unguarded, it can never start."""


class Cluster:
    """A program that is its own master: `Cluster("myapp:app", workers=4, listen=["127.0.0.1:8000"]).run()`.

    Settings are those of clusterd.yaml (docs/settings.md), sections as dicts. `metrics` is off unless it is given.
    Raises ValueError for what a file with them would be refused for. In templates and workers, which import it where
    application and cluster are one file, it does nothing, and the settings are not looked at.
    """

    def __init__(self, app: str | None = None, *, run: str | None = None, **settings: Any) -> None:
        named = {"app": app, "run": run}
        self._given: dict[str, Any] = {**{key: name for key, name in named.items() if name is not None}, **settings}
        self._registry = Registry(CLUSTER_EVENTS)
        self._handlers = Handlers(self._registry)
        self._primary: Primary | None = None
        self._has_run = False
        self._config = self._read(self._given) if self.is_primary else None

    # ---- at any time

    @property
    def is_primary(self) -> bool:
        """Whether this process is the program, and not a template or a worker that has imported it."""
        return not _OF_THE_CLUSTER & sys.modules.keys()

    @property
    def settings(self) -> dict[str, Any]:
        """All of them, defaults included, as `setup` and another `Cluster` take them; a copy."""
        return nested(written(self._checked_config()))

    @property
    def scheduling(self) -> str:
        """Who gets a new connection: "least_connections", "round_robin" or "shared"."""
        return self._checked_config().scheduling.value

    @property
    def events_dropped(self) -> int:
        """How many events no handler was told of, because too many waited. Each is in the log."""
        return self._handlers.dropped

    def setup(self, **settings: Any) -> None:
        """Change settings, sections key by key: for `run`, or, once it runs, for the next `reload`.

        Raises ValueError, and nothing is changed then.
        """
        given = _merged(self._given, settings)
        if self.is_primary:
            self._config = self._read(given)
            self._handlers.post("setup", None, self.settings)
        self._given = given

    def on(self, event: str) -> Callable[[_AnyHandler], _AnyHandler]:
        """Register the decorated function, plain or async, for an event: docs/node-cluster.md has them.

        Handlers are called one after the other, in one thread, in the order in which things happen.
        """
        return self._registry.on(event)

    # ---- while it runs

    @property
    def workers(self) -> dict[int, Worker]:
        """Who is in each slot now: the one that serves, or else the newest."""
        return {} if self._primary is None else self._primary.workers()

    def fork(self, environment: Mapping[str, str] | None = None) -> Worker:
        """One worker more, with these variables set before its code runs, and in whoever takes its place later.

        Where the application is preloaded, its import is over by then. Raises ValueError and TypeError for what cannot
        be set, and RuntimeError when the cluster does not run.
        """
        checked = None if environment is None else checked_environment(environment)
        encoded(checked)
        primary = self._running()
        worker: Worker = primary.wait(lambda done: primary.fork(checked, done))
        return worker

    def scale(self, workers: int) -> None:
        """Have so many workers, until the next reload.

        Raises ValueError for what is no number of them, and RuntimeError when the cluster does not run.
        """
        self._running().scale(workers)

    def reload(self) -> Reply:
        """Roll the code and the settings out; `await` it, or call its `result()`, for the generation that serves then.

        Either raises `clusterd.worker.RequestFailed` with the reason where the old generation serves on. Raises
        RuntimeError when the cluster does not run.
        """
        return Reply(self._running().reload())

    def disconnect(self) -> None:
        """Stop: every worker drains, and `run` returns. Raises RuntimeError when the cluster does not run."""
        self._running().stop()

    def broadcast(self, value: Any) -> int:
        """Send any JSON value to every worker; to how many.

        Raises as `Worker.send` does, save for workers that are gone; QueueFull when the others have got it; and
        RuntimeError when the cluster does not run.
        """
        self._running().check_running()
        return broadcast(self.workers, value)

    # ---- the life of the program

    def run(self) -> int:
        """Be the master until asked to stop, by a signal, `clusterctl stop` or `disconnect`; the exit status.

        0, or 70 when the application does not start. Raises RuntimeError in a template, in a worker, in a thread and
        the second time, and OSError for an address that cannot be listened on.
        """
        if not self.is_primary:
            raise NotPrimaryError(
                "Cluster.run() was reached in a process of the cluster itself, which imports the application: "
                "guard it with `if cluster.is_primary:`"
            )
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("Cluster.run() needs the main thread: signals are delivered there")
        if asyncio._get_running_loop() is not None:  # noqa: SLF001 - get_running_loop raises where there is none
            raise RuntimeError("Cluster.run() has an event loop of its own: call it outside of asyncio.run()")
        if self._has_run:
            raise RuntimeError("a cluster runs once: make another")
        self._has_run = True
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        hold_signals()
        try:
            return self._run()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _run(self) -> int:
        # Only now, and only here: templates and workers have no use for a master, nor always what it needs.
        from clusterd.cluster.primary import Primary
        from clusterd.master.master import Master

        config = self._checked_config()
        log = Logger(open_sink(os.environ))
        log.set_level(Level[config.log.level.name])
        listeners = _listeners(config)
        self._handlers.post("setup", None, self.settings)

        def observe(context: "MasterContext", operations: "Operations") -> Primary:
            self._primary = Primary(self._handlers, context, operations)
            return self._primary

        try:
            return Master(config, self._checked_config, listeners, log, observe=observe).run()
        finally:
            if self._primary is not None:
                self._primary.end()
            listeners.close()
            if not self._handlers.finish(HANDLERS_END_SECONDS):
                log.warning("the program ends before its handlers are through")
            log.flush()

    def _running(self) -> "Primary":
        if self._primary is None:
            raise RuntimeError(NOT_YET)
        return self._primary

    def _checked_config(self) -> Config:
        if self._config is None:
            raise RuntimeError("settings are known to the program, and not to its templates and workers")
        return self._config

    @staticmethod
    def _read(given: Mapping[str, Any]) -> Config:
        from clusterd.config.reading.loader import ConfigError, load_given

        try:
            # Nobody has asked for pages, and programs are often several.
            config = load_given(given, "Cluster", {"metrics": "off"})
        except ConfigError as error:
            raise ValueError(str(error)) from None
        if config.hooks is not None:
            raise ValueError(
                'hooks: a program has handlers of its own: register them with @cluster.on("exit") and so on'
            )
        return config


def _listeners(config: Config) -> "Listeners":
    """Raises OSError."""
    from clusterd.config.paths import control_path
    from clusterd.master.sockets.binding import ListenError
    from clusterd.master.sockets.listeners import open_listeners
    from clusterd.systemd.sockets import SocketError, passed_sockets

    try:
        path = Path(control_path(config.control, os.environ, os.getuid()))
        return open_listeners(config, passed_sockets(), path)
    except (ListenError, SocketError) as error:
        raise OSError(str(error)) from error


def _merged(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(before)
    for key, value in after.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged

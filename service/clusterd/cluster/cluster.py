"""`Cluster`: a Python counterpart of Node's cluster module."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from clusterd.config.model import Config
from clusterd.config.worker_environment import checked_environment
from clusterd.config.written import nested, written
from clusterd.hooks.handle import Worker, broadcast, leaving_worker
from clusterd.hooks.handlers import CLUSTER_EVENTS, NOT_YET, Handlers, Registry
from clusterd.linux.early_signals import hold_signals
from clusterd.log import Logger, open_sink
from clusterd.process.own_log import configure_log, level_of
from clusterd.wire.conversation import Reply
from clusterd.wire.values import encoded

if TYPE_CHECKING:
    from clusterd.cluster.primary import Primary
    from clusterd.master.context import MasterContext
    from clusterd.master.operations import Operations
    from clusterd.master.sockets.listeners import Listeners
    from clusterd.master.watching.watcher import Watcher

HANDLERS_END_SECONDS = 5.0
"""How long the handlers may take for the remaining events after the master has ended."""

_OF_THE_CLUSTER = frozenset({"clusterd.template.process", "clusterd.hooks.process"})
"""The modules that the processes started by a master run."""
_AnyHandler = TypeVar("_AnyHandler", bound=Callable[..., Any])


class NotPrimaryError(RuntimeError):
    """`Cluster.run` was called in a process of the cluster that imports the program as the application.

    The call needs the guard `if cluster.is_primary:`. Without it, the cluster can never start.
    """


class Cluster:
    """A program that is its own master: `Cluster("myapp:app", workers=4, listen=["127.0.0.1:8000"]).run()`.

    The settings are those of clusterd.yaml (docs/settings.md); a section is a dict. `metrics` is off by default.
    Raises ValueError for settings that would be invalid in clusterd.yaml.

    If the application and the cluster are in one file, templates and workers create this object too. There it does
    nothing, and the settings are not checked.

    `watch` is for development, like the flag --watch: the cluster reloads when one of these files changes, or anything
    below one of these directories. It is no setting.
    """

    def __init__(
        self,
        app: str | None = None,
        *,
        run: str | None = None,
        watch: Sequence[str | os.PathLike[str]] = (),
        **settings: Any,
    ) -> None:
        if isinstance(watch, str | os.PathLike):
            raise TypeError(f"watch: found {watch!r}, must be a list of paths")
        self._watch = [Path(each) for each in watch]
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
        """Whether this process is the program. False in a template or a worker that has imported it."""
        return not _OF_THE_CLUSTER & sys.modules.keys()

    @property
    def settings(self) -> dict[str, Any]:
        """A copy of all settings, with the defaults, in the form that `setup` and `Cluster` accept."""
        return nested(written(self._checked_config()))

    @property
    def scheduling(self) -> str:
        """How new connections are assigned to workers: "least_connections", "round_robin" or "shared"."""
        return self._checked_config().scheduling.value

    @property
    def events_dropped(self) -> int:
        """The number of events that were dropped because too many waited for the handlers. Each is logged."""
        return self._handlers.dropped

    def setup(self, **settings: Any) -> None:
        """Change settings, in sections only the given keys. They apply at `run`, or later at the next `reload`.

        Raises ValueError for invalid settings. In that case nothing is changed.
        """
        given = _merged(self._given, settings)
        if self.is_primary:
            self._config = self._read(given)
        self._given = given
        if self.is_primary:
            self._handlers.post("setup", None, self.settings)

    def on(self, event: str) -> Callable[[_AnyHandler], _AnyHandler]:
        """Register the decorated function, plain or async, as a handler of an event (docs/node-cluster.md).

        Handlers are called one after the other, in one thread, in the order of the events.
        """
        return self._registry.on(event)

    # ---- while it runs

    @property
    def workers(self) -> dict[int, Worker]:
        """The worker in each slot, by slot: the one that serves, or else the newest."""
        return {} if self._primary is None else self._primary.workers()

    def fork(self, environment: Mapping[str, str] | None = None) -> Worker:
        """Add one worker, with these environment variables. They are set before its code runs, also in its successors.

        If the application is preloaded, it was imported before they are set. In a handler of `exit` or `disconnect` no
        worker is added, because the cluster replaces the one that leaves. The result is its successor, or the worker
        that leaves if it has none yet. Raises ValueError and TypeError for variables that cannot be set, and
        RuntimeError if the cluster does not run or no worker can be added now.
        """
        checked = None if environment is None else checked_environment(environment)
        encoded(checked)
        primary = self._running()
        if (leaving := leaving_worker()) is not None:
            return primary.successor(leaving)
        worker: Worker = primary.wait(lambda done: primary.fork(checked, done))
        return worker

    def scale(self, workers: int) -> None:
        """Set the number of workers, until the next reload.

        Raises ValueError for an invalid number, and RuntimeError if the cluster does not run.
        """
        self._running().scale(workers)

    def reload(self) -> Reply:
        """Reload the code and the settings. `await` the reply or call its `result()` for the new generation's number.

        Both raise `clusterd.worker.RequestFailed` with the reason if the reload fails and the old generation serves on.
        `reload` raises RuntimeError if the cluster does not run, and QueueFull if 1,000 commands wait already.
        """
        return Reply(self._running().reload())

    def disconnect(self) -> None:
        """Stop: every worker drains, and `run` returns. Raises RuntimeError if the cluster does not run."""
        self._running().stop()

    def broadcast(self, value: Any) -> int:
        """Send a JSON value to every worker. Returns the number of workers that it was sent to.

        Raises the exceptions of `Worker.send`. A worker that has ended is skipped. QueueFull is raised after the value
        was sent to all other workers. Raises RuntimeError if the cluster does not run.
        """
        self._running().check_running()
        return broadcast(self.workers, value)

    # ---- the life of the program

    def run(self) -> int:
        """Run as the master until a stop by a signal, `clusterctl stop` or `disconnect`. Returns the exit status.

        It is 0, or 70 if the application cannot start. Raises RuntimeError in a template, in a worker, outside the main
        thread, inside an event loop, and at a second call. Raises OSError for an address that cannot be listened on,
        and for a path that cannot be watched.
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
        # Imported here, because templates and workers do not need the master, and may lack the packages that it needs.
        from clusterd.cluster.primary import Primary
        from clusterd.master.master import Master

        config = self._checked_config()
        log = Logger(open_sink(os.environ))
        log.set_level(level_of(config.log))
        configure_log(log, config.log)

        def observe(context: "MasterContext", operations: "Operations") -> Primary:
            self._primary = Primary(self._handlers, context, operations)
            return self._primary

        opened = ExitStack()
        try:
            listeners = opened.enter_context(closing(_listeners(config)))
            opened.callback(listeners.remove_files)
            watcher = opened.enter_context(closing(_watcher(self._watch, config, log))) if self._watch else None
            self._handlers.post("setup", None, self.settings)
            return Master(config, self._reread, listeners, log, observe=observe, watcher=watcher).run()
        finally:
            if self._primary is not None:
                self._primary.end()
            opened.close()
            if not self._handlers.finish(HANDLERS_END_SECONDS):
                log.warning("the program ends before its handlers have finished")
            log.flush()

    def _reread(self) -> Config:
        return _load(self._given)

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
        from clusterd.config.reading.problems import ConfigError

        try:
            config = _load(given)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        if config.hooks is not None:
            raise ValueError(
                'hooks: a program has handlers of its own: register them with @cluster.on("exit") and so on'
            )
        return config


def _load(given: Mapping[str, Any]) -> Config:
    """Check settings, and read the files that they name. Raises ConfigError."""
    from clusterd.config.reading.loader import load_given

    # The metrics endpoint is off by default, because several programs on one host would use the same address.
    return load_given(given, "Cluster", {"metrics.address": "off"})


def _listeners(config: Config) -> "Listeners":
    """Open the listening sockets of the program. Raises OSError."""
    from clusterd.config.paths import control_path
    from clusterd.master.sockets.binding import ListenError
    from clusterd.master.sockets.listeners import open_listeners
    from clusterd.systemd.sockets import SocketError, passed_sockets

    try:
        path = Path(control_path(config.control, os.environ, os.getuid()))
        return open_listeners(config, passed_sockets(), path)
    except (ListenError, SocketError) as error:
        raise OSError(str(error)) from error


def _watcher(paths: Sequence[Path], config: Config, log: Logger) -> "Watcher":
    """Watch these paths, and the file that the next reload reads. Raises OSError."""
    from clusterd.master.watching.watcher import Watcher, WatchError

    try:
        return Watcher([*paths, *([Path(config.environment_file)] if config.environment_file else [])], log)
    except WatchError as error:
        raise OSError(str(error)) from error


def _merged(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(before)
    for key, value in after.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged

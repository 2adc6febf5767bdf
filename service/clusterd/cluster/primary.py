"""What a program has of its master: handles of the workers, events for its handlers, and its commands carried out.

The program's threads come in by `ask`; everything else is called on the master's loop.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from clusterd.cluster.handle import State, Worker
from clusterd.cluster.handlers import NOT_YET, Handlers
from clusterd.config.model import TcpAddress
from clusterd.log import Logger
from clusterd.master.children import Child
from clusterd.master.chronicle import code_and_signal
from clusterd.master.debuggers import NoDebugger
from clusterd.master.program import Parts
from clusterd.supervisor import actions, events
from clusterd.supervisor.cluster import Cluster, Phase
from clusterd.supervisor.states import FAILURES, WorkerState
from clusterd.systemd.sockets import address_text
from clusterd.wire.conversation import Incoming, RequestFailed

_NOBODY = 0
"""The number of a restart whose end nobody waits for; those of the control socket begin with 1."""
_ENDED = "the cluster has stopped"

Command = Callable[["Future[Any]"], None]


class Primary:
    """The program's end of the master."""

    def __init__(self, handlers: Handlers, log: Logger) -> None:
        self._handlers = handlers
        self._log = log
        self._master: Parts | None = None
        self._addresses: list[str] = []
        self._living: dict[int, tuple[Worker, State]] = {}
        """By serial."""
        self._lock = threading.Lock()
        self._thread: int | None = None
        """The one that runs the loop."""
        self._has_started = False
        self._has_ended = False
        self._asked: set[Future[Any]] = set()
        """What a thread waits for."""
        self._forks: dict[int, list[Future[Any]]] = {}
        """Those of them that are given the next worker of a slot."""
        self._rollouts: dict[int, list[Future[Any]]] = {}

    # ---- in any thread

    def ask(self, command: Command) -> "Future[Any]":
        """Have `command` carried out on the loop; it sees to it that the future that it is given is done some time.

        Raises RuntimeError where there is no loop; the future fails with it when there is none later.
        """
        loop, future = self._parts.loop, Future[Any]()
        if not self._has_started:
            raise RuntimeError(NOT_YET)
        future.set_running_or_notify_cancel()  # whoever loses interest cancels nothing
        with self._lock:
            if self._has_ended:
                raise RuntimeError(_ENDED)
            self._asked.add(future)
        future.add_done_callback(self._asked.discard)
        if threading.get_ident() == self._thread:
            # A signal handler of the program: waiting for the loop would be for ever.
            self._carry_out(command, future)
        else:
            loop.call_soon_threadsafe(self._carry_out, command, future)
        return future

    def wait(self, command: Command) -> Any:
        """What comes of `command`. Raises what it does, and RuntimeError as `ask`."""
        future = self.ask(command)
        if threading.get_ident() == self._thread and not future.done():
            raise RuntimeError("the thread that runs the cluster can not wait for it: do this in a handler or a thread")
        return future.result()

    def workers(self) -> dict[int, Worker]:
        """Who is in each slot: the one that serves, or else the newest."""
        found: dict[int, tuple[Worker, State]] = {}
        for worker, state in list(self._living.values()):
            before = found.get(worker.id)
            if before is None or _rank(state) >= _rank(before[1]):
                found[worker.id] = worker, state
        return {slot: found[slot][0] for slot in sorted(found)}

    def end(self) -> None:
        """The master's loop turns no more."""
        with self._lock:
            self._has_ended = True
            waiting = list(self._asked)
        for future in waiting:
            _fail(future, RuntimeError(_ENDED))

    # ---- commands

    def scale(self, workers: int, done: "Future[Any]") -> None:
        """Have so many workers."""
        cluster = self._running()
        self._parts.happened(events.ScaleAsked(workers - cluster.wanted, may_be_early=True))
        for slot in [slot for slot in self._forks if slot > workers]:
            for fork in self._forks.pop(slot):
                _fail(fork, RuntimeError("fewer workers are wanted now"))
        done.set_result(cluster.wanted)

    def fork(self, environment: dict[str, str] | None, done: "Future[Any]") -> None:
        """One worker more, which `done` is given when it is forked."""
        slot = self._running().wanted + 1
        if environment is not None:
            self._parts.processes.environments[slot] = environment
        self._forks.setdefault(slot, []).append(done)
        self._parts.happened(events.ScaleAsked(+1, may_be_early=True))

    def reload(self, done: "Future[Any]") -> None:
        """A rollout; `done` is given its generation, or fails."""
        self._rollouts.setdefault(self._parts.supervisor.next_rollout, []).append(done)
        self._parts.happened(events.ReloadAsked())

    def stop(self, done: "Future[Any]") -> None:
        """Drain everything and end. Asked again, it is not hurried, as it would be by a second signal."""
        if self._cluster.phase in (Phase.STARTING, Phase.RUNNING):
            self._parts.happened(events.StopAsked())
        done.set_result(None)

    def _kill(self, serial: int, number: int) -> None:
        def send(done: "Future[Any]") -> None:
            child = self._parts.children.get(serial)
            if child is not None:
                self._parts.children.signal(child, number)
            done.set_result(None)

        self.wait(send)

    def _leave(self, serial: int) -> None:
        def replace(done: "Future[Any]") -> None:
            worker = self._cluster.table.workers.get(serial)
            if worker is not None and worker.state is WorkerState.READY and self._cluster.rollout is None:
                self._parts.happened(events.RestartAsked(_NOBODY, worker.slot))
            done.set_result(None)

        self.wait(replace)

    def _debug(self, serial: int) -> "Future[Any]":
        def start(done: "Future[Any]") -> None:
            def tell(found: TcpAddress | NoDebugger) -> None:
                if isinstance(found, NoDebugger):
                    _fail(done, RequestFailed(found.reason))
                elif not done.done():
                    done.set_result(str(found))

            child = self._parts.children.get(serial)
            if child is None or child.pid is None:
                raise RequestFailed("the worker has no process")
            self._parts.debuggers.start(child, tell)

        return self.ask(start)

    # ---- what the master tells (master/program.py)

    def begin(self, parts: Parts) -> None:
        """There is a master."""
        self._master, self._thread = parts, threading.get_ident()
        self._addresses = [address_text(sock) for sock in parts.listeners.public]

    def note_event(self, event: events.Event) -> None:
        """A worker has said hello; or it begins, and commands make sense."""
        match event:
            case events.Start():
                self._handlers.start(self._log)
                self._has_started = True
            case events.WorkerHello(serial, pid) if serial in self._living:
                worker, state = self._living[serial]
                state.pid = pid
                self._handlers.post("online", worker)

    def note_action(self, action: actions.Action) -> None:
        """What becomes of a worker, or of a rollout."""
        match action:
            case actions.Fork(serial):
                self._forked(serial)
            case actions.Serve(serial) if serial in self._living:
                worker, state = self._living[serial]
                state.is_connected = state.is_listening = True
                self._handlers.post("listening", worker, list(self._addresses))
            case actions.Retire(serial) if serial in self._living:
                self._disconnected(*self._living[serial])
            case actions.WorkerEnded(serial) if serial in self._living:
                worker, state = self._living.pop(serial)
                self._disconnected(worker, state)
                state.is_dead, state.left_when_asked = True, action.reason not in FAILURES
                self._handlers.post("exit", worker, *code_and_signal(action.code))
            case actions.RolloutEnded(number, generation, failure):
                for done in self._rollouts.pop(number, ()):
                    if failure is None:
                        done.set_result(generation)
                    else:
                        done.set_exception(RequestFailed(failure))

    def heard(self, child: Child, incoming: Incoming) -> None:
        """A worker's application has said something."""
        worker, _ = self._living[child.serial]
        self._handlers.post_message(worker, incoming)

    # ---- within

    @property
    def _parts(self) -> Parts:
        if self._master is None:
            raise RuntimeError(NOT_YET)
        return self._master

    @property
    def _cluster(self) -> Cluster:
        return self._parts.supervisor.cluster

    def _running(self) -> Cluster:
        cluster = self._cluster
        if cluster.phase not in (Phase.STARTING, Phase.RUNNING):
            raise RuntimeError(f"the cluster is {cluster.phase.value}")
        return cluster

    def _carry_out(self, command: Command, future: "Future[Any]") -> None:
        try:
            command(future)
        except Exception as error:  # it belongs to the one who asked
            _fail(future, error)

    def _forked(self, serial: int) -> None:
        child = self._parts.children.get(serial)
        if child is None:
            return  # it could not be forked: there never was a worker
        state = State()
        worker = Worker(
            child.slot,
            child.generation,
            state,
            self._parts.messages.conversation(child),
            partial(self._kill, serial),
            partial(self._leave, serial),
            partial(self._debug, serial),
        )
        self._living[serial] = worker, state
        self._handlers.post("fork", worker)
        for done in self._forks.pop(child.slot, ()):
            done.set_result(worker)

    def _disconnected(self, worker: Worker, state: State) -> None:
        if state.is_connected:
            state.is_connected = False
            self._handlers.post("disconnect", worker)


def _rank(state: State) -> tuple[bool, bool]:
    return state.is_connected and state.is_listening, state.is_connected


def _fail(future: "Future[Any]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)

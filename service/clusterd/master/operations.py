"""The operations that the control socket, `Cluster` and hooks offer: each is asked for here, and answered here.

Whoever asks passes a future and gets what became of the operation through it; on the master's loop.
"""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from clusterd.config.model import TcpAddress
from clusterd.master.children.debuggers import NoDebugger
from clusterd.master.children.killing import send_signal
from clusterd.master.children.table import Child, Kind
from clusterd.master.context import MasterContext
from clusterd.supervisor import actions, events
from clusterd.supervisor.model.cluster import Cluster, Phase
from clusterd.supervisor.model.states import WorkerState
from clusterd.wire.control import MOST_SLOTS
from clusterd.wire.conversation import RequestFailed
from clusterd.wire.hooks import EXIT, FORK, WorkerEvent

Done = Future[Any]


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """What became of a reload. `failure` is None where every slot runs `generation` now."""

    number: int
    generation: int
    failure: str | None
    notes: tuple[str, ...]
    """What was changed and takes more than a reload, each in one line."""

    @property
    def text(self) -> str:
        """In one line."""
        if self.failure is None:
            return f"reload succeeded, generation {self.generation} serves"
        return f"reload failed, generation {self.generation} serves on: {self.failure}"


class Operations:
    """Owns the futures of forks, reloads and restarts that are under way."""

    def __init__(self, context: MasterContext) -> None:
        self._context = context
        self._forks: dict[int, list[Done]] = {}
        """By slot: each is given the next worker of it."""
        self._reloads: dict[int, list[Done]] = {}
        self._restarts: dict[int, Done] = {}
        self._last_restart = 0

    @property
    def _cluster(self) -> Cluster:
        return self._context.cluster

    # ---- of the whole service

    def reload(self, done: Done) -> int:
        """Begin a rollout, or another one after that under way; `done` is given its ReloadResult. Its number."""
        number = self._context.supervisor.next_rollout
        # Known before it is asked for: a bad configuration ends a rollout within one step.
        self._reloads.setdefault(number, []).append(done)
        self._context.happened(events.ReloadAsked())
        return number

    def reload_or_fail(self, done: Done) -> None:
        """The same; `done` is given the generation that serves, or fails with RequestFailed."""

        def conclude(result: ReloadResult) -> None:
            if result.failure is None:
                done.set_result(result.generation)
            else:
                done.set_exception(RequestFailed(result.failure))

        self.reload(when_done(conclude))

    def stop(self) -> None:
        """Drain everything and end. Asked again, it is not hurried, as it would be by a second signal."""
        if not self._cluster.is_to_stop:
            self._context.happened(events.StopAsked())

    def scale(self, workers: int) -> int:
        """Have so many workers, which are returned. Raises ValueError for another number than 1 to MOST_SLOTS."""
        if type(workers) is not int or not 1 <= workers <= MOST_SLOTS:
            raise ValueError(f"workers: found {workers!r}, must be a whole number from 1 to {MOST_SLOTS}")
        cluster = self._running()
        self._context.happened(events.CountAsked(workers, may_be_early=True))
        for slot in [slot for slot in self._forks if slot > workers]:
            for fork in self._forks.pop(slot):
                fork.set_exception(RuntimeError("fewer workers are wanted now"))
        return cluster.wanted

    def fork(self, environment: dict[str, str] | None, done: Done) -> None:
        """One worker more; `done` is given the `WorkerEvent` of its fork. Raises RuntimeError."""
        cluster = self._running()
        slot = cluster.wanted + 1
        if slot > MOST_SLOTS:
            raise RuntimeError(f"there are {MOST_SLOTS} workers, and may be no more")
        if cluster.rollout is not None and cluster.rollout.workers not in (0, cluster.wanted):
            raise RuntimeError("a reload is under way that changes how many workers there are: fork when it is over")
        environments = self._context.processes.environments
        environments.pop(slot, None)
        if environment is not None:
            environments[slot] = environment
        self._forks.setdefault(slot, []).append(done)
        self._context.happened(events.ScaleAsked(+1, may_be_early=True))

    # ---- of one worker

    def restart(self, slot: int, done: Done) -> None:
        """Replace the worker in `slot`, its successor first; `done` is given why not, or None."""
        self._last_restart += 1
        self._restarts[self._last_restart] = done
        self._context.happened(events.RestartAsked(self._last_restart, slot))

    def leave(self, serial: int) -> None:
        """Replace a worker, its successor first. One that is leaving goes on with that."""
        worker = self._cluster.table.workers.get(serial)
        if worker is not None and worker.state is WorkerState.READY and self._cluster.rollout is None:
            self.restart(worker.slot, Future())

    def kill(self, serial: int, number: int) -> None:
        """Send a worker a signal, in the name of the program; a dead one gets none."""
        child = self.worker(serial)
        if child is not None:
            send_signal(child, number, "the program", self._context.children, self._context.happened)

    def debug(self, serial: int, done: Done) -> None:
        """Have a debugger listen in a worker; `done` is given its address, or fails. Raises RequestFailed."""

        def tell(found: TcpAddress | NoDebugger) -> None:
            if isinstance(found, NoDebugger):
                done.set_exception(RequestFailed(found.reason))
            else:
                done.set_result(str(found))

        child = self.worker(serial)
        if child is None or child.pid is None:
            raise RequestFailed("the worker has no process")
        self._context.debuggers.start(child, tell)

    def worker(self, serial: int) -> Child | None:
        """The worker with this serial, which is alive or on its way; no other process."""
        child = self._context.children.get(serial)
        return child if child is not None and child.kind is Kind.WORKER else None

    # ---- what becomes of them

    def note_worker_event(self, worker_event: WorkerEvent) -> None:
        """A worker was forked, or the last one of a slot has ended."""
        if worker_event.name == EXIT and worker_event.slot not in self._cluster.slots():
            self._context.processes.environments.pop(worker_event.slot, None)
        if worker_event.name == FORK:
            for done in self._forks.pop(worker_event.slot, ()):
                done.set_result(worker_event)

    def reload_ended(self, result: ReloadResult) -> None:
        """Rollout `result.number` is over."""
        for done in self._reloads.pop(result.number, ()):
            done.set_result(result)

    def restart_ended(self, ended: actions.RestartEnded) -> None:
        """A restart is over."""
        self._restarts.pop(ended.number).set_result(ended.failure)

    def _running(self) -> Cluster:
        cluster = self._cluster
        if cluster.phase not in (Phase.STARTING, Phase.RUNNING):
            raise RuntimeError(f"the cluster is {cluster.phase.value}")
        return cluster


def when_done(call: Callable[[Any], None]) -> Done:
    """A future whose result `call` is given."""
    done: Done = Future()
    done.add_done_callback(lambda future: call(future.result()))
    return done

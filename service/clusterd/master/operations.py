"""What a program wants done, on the master's loop. Each order sees to it that its future is done some time."""

from concurrent.futures import Future
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

_NOBODY = 0
"""The number of a restart whose end nobody waits for; those of the control socket begin with 1."""

Done = Future[Any]


class Operations:
    """Owns the futures of those who wait for a fork or for a rollout. What an order raises is the asker's."""

    def __init__(self, context: MasterContext) -> None:
        self._context = context
        self._forks: dict[int, list[Done]] = {}
        """Who is given the next worker of a slot."""
        self._rollouts: dict[int, list[Done]] = {}

    def scale(self, workers: int, done: Done) -> None:
        """Have so many workers. Raises ValueError for what is no number of them."""
        if type(workers) is not int or not 1 <= workers <= MOST_SLOTS:
            raise ValueError(f"workers: found {workers!r}, must be a whole number from 1 to {MOST_SLOTS}")
        cluster = self._running()
        self._context.happened(events.CountAsked(workers, may_be_early=True))
        for slot in [slot for slot in self._forks if slot > workers]:
            for fork in self._forks.pop(slot):
                fork.set_exception(RuntimeError("fewer workers are wanted now"))
        done.set_result(cluster.wanted)

    def fork(self, environment: dict[str, str] | None, done: Done) -> None:
        """One worker more; `done` is given the `WorkerEvent` of its fork."""
        cluster = self._running()
        slot = cluster.wanted + 1
        if slot > MOST_SLOTS:
            raise RuntimeError(f"there are {MOST_SLOTS} workers, and may be no more")
        if cluster.rollout is not None and cluster.rollout.workers not in (0, cluster.wanted):
            raise RuntimeError("a reload is under way that changes how many workers there are: fork when it is over")
        self._context.processes.environments.pop(slot, None)
        if environment is not None:
            self._context.processes.environments[slot] = environment
        self._forks.setdefault(slot, []).append(done)
        self._context.happened(events.ScaleAsked(+1, may_be_early=True))

    def reload(self, done: Done) -> None:
        """A rollout; `done` is given its generation, or fails."""
        self._rollouts.setdefault(self._context.supervisor.next_rollout, []).append(done)
        self._context.happened(events.ReloadAsked())

    def stop(self, done: Done) -> None:
        """Drain everything and end. Asked again, it is not hurried, as it would be by a second signal."""
        if not self._cluster.is_to_stop:
            self._context.happened(events.StopAsked())
        done.set_result(None)

    def kill(self, serial: int, number: int, done: Done) -> None:
        """Send a worker a signal; a dead one gets none."""
        child = self.worker(serial)
        if child is not None:
            send_signal(child, number, "the program", self._context.children, self._context.happened)
        done.set_result(None)

    def leave(self, serial: int, done: Done) -> None:
        """Have a worker replaced, its successor first. One that is leaving goes on with that."""
        worker = self._cluster.table.workers.get(serial)
        if worker is not None and worker.state is WorkerState.READY and self._cluster.rollout is None:
            self._context.happened(events.RestartAsked(_NOBODY, worker.slot))
        done.set_result(None)

    def debug(self, serial: int, done: Done) -> None:
        """Have a debugger listen in a worker; `done` is given its address, or fails."""

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

    # ---- what comes of them

    def note_worker_event(self, worker_event: WorkerEvent) -> None:
        """Something has become of a worker: it may be the one that somebody waits for, or the last of its slot."""
        if worker_event.name == EXIT and worker_event.slot not in self._cluster.slots():
            self._context.processes.environments.pop(worker_event.slot, None)
        if worker_event.name == FORK:
            for done in self._forks.pop(worker_event.slot, ()):
                done.set_result(worker_event)

    def note_action(self, action: actions.Action) -> None:
        """The supervisor has decided this: it may be the end of a rollout that somebody waits for."""
        if not isinstance(action, actions.RolloutEnded):
            return
        for done in self._rollouts.pop(action.number, ()):
            if action.failure is None:
                done.set_result(action.generation)
            else:
                done.set_exception(RequestFailed(action.failure))

    @property
    def _cluster(self) -> Cluster:
        return self._context.supervisor.cluster

    def _running(self) -> Cluster:
        cluster = self._cluster
        if cluster.phase not in (Phase.STARTING, Phase.RUNNING):
            raise RuntimeError(f"the cluster is {cluster.phase.value}")
        return cluster

"""The operations that the control socket, `Cluster` and the hooks offer, such as reload, scale and restart.

The caller passes a future, which receives the outcome of the operation. All of it runs on the master's loop.
"""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from clusterd.config.model import TcpAddress
from clusterd.master.children.child import Child, Kind
from clusterd.master.children.killing import send_signal
from clusterd.master.context import MasterContext
from clusterd.master.diagnosis.debuggers import NoDebugger
from clusterd.records import dataclass
from clusterd.supervisor import actions, events
from clusterd.supervisor.model.cluster import ClusterState, Phase
from clusterd.supervisor.model.states import WorkerState
from clusterd.wire.control import MOST_SLOTS
from clusterd.wire.conversation import RequestFailed
from clusterd.wire.hooks import EXIT, FORK, WorkerEvent

Done = Future[Any]


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """The outcome of a reload. `failure` is None if every slot now runs `generation`."""

    number: int
    generation: int
    failure: str | None
    notes: tuple[str, ...]
    """One line for each change that a reload does not apply."""

    @property
    def text(self) -> str:
        """The outcome in one line."""
        if self.failure is None:
            return f"reload succeeded, generation {self.generation} serves"
        return f"reload failed, generation {self.generation} serves on: {self.failure}"


class Operations:
    """Owns the futures of the forks, reloads and restarts under way."""

    def __init__(self, context: MasterContext) -> None:
        self._context = context
        self._forks: dict[int, list[Done]] = {}
        """By slot. Each future receives the next worker of its slot."""
        self._newest: dict[int, WorkerEvent] = {}
        """By slot, the fork of its newest worker, if that lives."""
        self._is_idiom_known = False
        """Whether the log already says what a fork in a handler of `exit` does."""
        self._reloads: dict[int, list[Done]] = {}
        self._restarts: dict[int, Done] = {}
        self._last_restart = 0

    @property
    def _cluster(self) -> ClusterState:
        return self._context.cluster

    # ---- of the whole service

    def resume(self) -> None:
        """Go on behind the restarts that an earlier master was asked for."""
        self._last_restart = max(self._cluster.restarts.values(), default=0)

    def reload(self, done: Done) -> int:
        """Begin a rollout, after the one under way if there is one. Returns the number of the rollout.

        `done` receives the ReloadResult.
        """
        number = self._context.supervisor.next_rollout
        # Registered before the request: an invalid configuration ends the rollout within one step.
        self._reloads.setdefault(number, []).append(done)
        self._context.post_event(events.ReloadAsked())
        return number

    def reload_or_fail(self, done: Done) -> None:
        """Reload. `done` receives the number of the new generation, or fails with RequestFailed."""

        def conclude(result: ReloadResult) -> None:
            if result.failure is None:
                done.set_result(result.generation)
            else:
                done.set_exception(RequestFailed(result.failure))

        self.reload(when_done(conclude))

    def stop(self, urgency: events.Urgency = events.Urgency.DRAIN) -> None:
        """Drain every worker and end, or end at once. A further call for a drain changes nothing."""
        self._context.post_event(events.StopAsked(urgency))

    def scale(self, workers: int) -> int:
        """Set the number of workers, and return it.

        Raises ValueError unless `workers` is an integer from 1 to MOST_SLOTS, and RuntimeError if the cluster has
        ended or is stopping.
        """
        if type(workers) is not int or not 1 <= workers <= MOST_SLOTS:
            raise ValueError(f"workers: found {workers!r}, must be a whole number from 1 to {MOST_SLOTS}")
        cluster = self._running()
        self._context.post_event(events.CountAsked(workers, may_be_early=True))
        for slot in [slot for slot in self._forks if slot > workers]:
            for fork in self._forks.pop(slot):
                fork.set_exception(RuntimeError("fewer workers are wanted now"))
        return cluster.wanted

    def fork(self, environment: dict[str, str] | None, done: Done) -> None:
        """Add one worker. `done` receives the `WorkerEvent` of its fork.

        Raises RuntimeError if the cluster has ended or is stopping, if it has MOST_SLOTS workers, or if a reload that
        changes the number of workers is under way.
        """
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
        self._context.post_event(events.ScaleAsked(+1, may_be_early=True))

    def successor(self, slot: int) -> WorkerEvent | None:
        """Return the fork of the newest worker in `slot`, for a program that forks where a worker has left.

        None if that is not forked yet, or will not be. Unlike in Node no worker is added, because clusterd replaces
        workers itself.
        """
        if not self._is_idiom_known:
            self._is_idiom_known = True
            how = "clusterd itself replaces a worker that leaves, and cluster.scale() changes their number"
            self._context.log.notice(f"cluster.fork() in a handler of exit or disconnect adds no worker: {how}")
        return self._newest.get(slot)

    # ---- of one worker

    def restart(self, slot: int, done: Done) -> None:
        """Replace the worker in `slot`; its successor is started first. `done` receives the failure, or None."""
        self._last_restart += 1
        self._restarts[self._last_restart] = done
        self._context.post_event(events.RestartAsked(self._last_restart, slot))

    def leave(self, serial: int) -> None:
        """Replace a worker; its successor is started first. A worker that is already leaving is not affected."""
        worker = self._cluster.table.workers.get(serial)
        if worker is not None and worker.state is WorkerState.READY and self._cluster.rollout is None:
            self.restart(worker.slot, Future())

    def kill(self, serial: int, number: int) -> None:
        """Send a signal to a worker on behalf of the program. A dead worker is ignored."""
        child = self.worker(serial)
        if child is not None:
            send_signal(child, number, "the program", self._context.children, self._context.post_event)

    def debug(self, serial: int, done: Done) -> None:
        """Start a debugger in a worker. `done` receives its address, or fails with RequestFailed.

        Raises RequestFailed if the worker has no process.
        """

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
        """The worker with this serial, alive or being forked. None for another kind of process."""
        child = self._context.children.get(serial)
        return child if child is not None and child.kind is Kind.WORKER else None

    # ---- outcomes

    def note_worker_event(self, worker_event: WorkerEvent) -> None:
        """Complete the forks that wait for this worker. Drop the environment of a slot that no longer exists."""
        if worker_event.name == EXIT and worker_event.slot not in self._cluster.slots():
            self._context.processes.environments.pop(worker_event.slot, None)
        slot = worker_event.slot
        if worker_event.name == EXIT and slot in self._newest and self._newest[slot].serial == worker_event.serial:
            del self._newest[slot]
        if worker_event.name == FORK:
            self._newest[slot] = worker_event
            for done in self._forks.pop(worker_event.slot, ()):
                done.set_result(worker_event)

    def reload_ended(self, result: ReloadResult) -> None:
        """Complete the reloads that wait for rollout `result.number`."""
        for done in self._reloads.pop(result.number, ()):
            done.set_result(result)

    def restart_ended(self, ended: actions.RestartEnded) -> None:
        """Complete the restart `ended.number`. If a dead master was asked for it, no client waits."""
        if (done := self._restarts.pop(ended.number, None)) is not None:
            done.set_result(ended.failure)

    def _running(self) -> ClusterState:
        cluster = self._cluster
        if cluster.phase not in (Phase.STARTING, Phase.RUNNING):
            raise RuntimeError(f"the cluster is {cluster.phase.value}")
        return cluster


def when_done(call: Callable[[Any], None]) -> Done:
    """A future that passes its result to `call`."""
    done: Done = Future()
    done.add_done_callback(lambda future: call(future.result()))
    return done

"""The handles of the workers, kept up to date by the worker events."""

from collections.abc import Callable

from clusterd.hooks.handle import Worker
from clusterd.wire.hooks import State, WorkerEvent


class Roster:
    """Owns the handles of the living workers. `make` creates one. Every method but `workers` is for one thread only."""

    def __init__(self, make: Callable[[WorkerEvent], Worker]) -> None:
        self._make = make
        self._living: dict[int, Worker] = {}
        """The handles of the living workers, by serial."""

    def take(self, worker_event: WorkerEvent) -> Worker:
        """The worker of an event, with the state after the event. If that is its end, its handle is removed."""
        worker = self.find(worker_event)
        worker.become(worker_event.state)
        if worker_event.state.is_dead:
            del self._living[worker_event.serial]
        return worker

    def find(self, worker_event: WorkerEvent) -> Worker:
        """The worker of an event. Its state is not changed."""
        worker = self._living.get(worker_event.serial)
        if worker is None:
            worker = self._living[worker_event.serial] = self._make(worker_event)
        return worker

    def workers(self) -> dict[int, Worker]:
        """The worker in each slot, by slot: the one that serves, or else the newest. May be called in any thread."""
        found: dict[int, Worker] = {}
        for worker in list(self._living.values()):
            before = found.get(worker.id)
            if before is None or _rank(worker.state) >= _rank(before.state):
                found[worker.id] = worker
        return dict(sorted(found.items()))


def _rank(state: State) -> tuple[bool, bool]:
    return state.is_connected and state.is_listening, state.is_connected

"""The workers as a program's handlers see them, from what it is told of them."""

from collections.abc import Callable

from clusterd.hooks.handle import Worker
from clusterd.wire.hooks import State, WorkerEvent


class Roster:
    """Owns the handles of those who are not dead. `make` makes one; all but `workers` is called in one thread."""

    def __init__(self, make: Callable[[WorkerEvent], Worker]) -> None:
        self._make = make
        self._living: dict[int, Worker] = {}
        """By serial."""

    def take(self, worker_event: WorkerEvent) -> Worker:
        """The worker that something has become of, as it is since; its last time where that is its end."""
        worker = self.find(worker_event)
        worker.become(worker_event.state)
        if worker_event.state.is_dead:
            del self._living[worker_event.serial]
        return worker

    def find(self, worker_event: WorkerEvent) -> Worker:
        """The worker that `worker_event` is about, as it was."""
        worker = self._living.get(worker_event.serial)
        if worker is None:
            worker = self._living[worker_event.serial] = self._make(worker_event)
        return worker

    def workers(self) -> dict[int, Worker]:
        """Who is in each slot: the one that serves, or else the newest. In any thread."""
        found: dict[int, Worker] = {}
        for worker in list(self._living.values()):
            before = found.get(worker.id)
            if before is None or _rank(worker.state) >= _rank(before.state):
                found[worker.id] = worker
        return dict(sorted(found.items()))


def _rank(state: State) -> tuple[bool, bool]:
    return state.is_connected and state.is_listening, state.is_connected

"""Connects a program to its master: handles of the workers, events for its handlers, and its operations.

The threads of the program use the methods of the first section. Everything else is called on the master's loop.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from clusterd.hooks.handle import Worker
from clusterd.hooks.handlers import NOT_YET, Handlers
from clusterd.hooks.roster import Roster
from clusterd.master.context import MasterContext
from clusterd.master.operations import Done, Operations
from clusterd.supervisor import actions, events
from clusterd.wire.conversation import MOST_WAITING, Incoming, QueueFull
from clusterd.wire.hooks import WorkerEvent

_ENDED = "the cluster has stopped"

Command = Callable[[Done], None]


class Primary:
    """The observer of a program that is its own master, and its access to the operations."""

    def __init__(self, handlers: Handlers, context: MasterContext, operations: Operations) -> None:
        self._handlers = handlers
        self._context = context
        self._operations = operations
        self._roster = Roster(self._make)
        self._lock = threading.Lock()
        self._thread = threading.get_ident()
        """The thread that runs the master's loop."""
        self._has_started = False
        self._has_ended = False
        self._asked: set[Done] = set()
        """The futures that are not done yet."""

    # ---- in any thread

    def ask(self, command: Command) -> Done:
        """Carry out `command` on the loop. `command` receives the future that is returned, and must complete it.

        Raises RuntimeError if the cluster does not run, and QueueFull if MOST_WAITING commands are not done. If the
        cluster ends before the future is done, the future fails with RuntimeError.
        """
        future: Done = Future()
        self.check_running()
        future.set_running_or_notify_cancel()  # From now on the caller cannot cancel the future.
        with self._lock:
            if self._has_ended:
                raise RuntimeError(_ENDED)
            if len(self._asked) >= MOST_WAITING:
                raise QueueFull(f"{MOST_WAITING} commands to the cluster are not carried out yet")
            self._asked.add(future)
        future.add_done_callback(self._asked.discard)
        if threading.get_ident() == self._thread:
            # A signal handler of the program is the caller. If it waited for the loop, it would wait for ever.
            self._carry_out(command, future)
            return future
        try:
            self._context.loop.call_soon_threadsafe(self._carry_out, command, future)
        except RuntimeError:  # The loop is closed, and `end` is about to be called.
            self._asked.discard(future)
            raise RuntimeError(_ENDED) from None
        return future

    def check_running(self) -> None:
        """Raise RuntimeError if the cluster does not run."""
        if not self._has_started:
            raise RuntimeError(NOT_YET)
        if self._has_ended:
            raise RuntimeError(_ENDED)

    def wait(self, command: Command) -> Any:
        """Carry out `command` and wait for its outcome. Raises its exception, and RuntimeError as `ask` does."""
        future = self.ask(command)
        if threading.get_ident() == self._thread and not future.done():
            raise RuntimeError("the thread that runs the cluster cannot wait for it: do this in a handler or a thread")
        return future.result()

    def workers(self) -> dict[int, Worker]:
        """The worker in each slot, by slot: the one that serves, or else the newest."""
        return self._roster.workers()

    def end(self) -> None:
        """Fail every future that is not done, because the master's loop has ended."""
        with self._lock:
            self._has_ended = True
            waiting = list(self._asked)
        for future in waiting:
            _fail(future, RuntimeError(_ENDED))

    # ---- operations

    def scale(self, workers: int) -> None:
        """Set the number of workers. Raises ValueError, and RuntimeError as `ask` does."""
        self._wait_for(self._operations.scale, workers)

    def reload(self) -> Done:
        """Reload. The future receives the new generation's number, or fails. Raises RuntimeError as `ask` does."""
        return self.ask(self._operations.reload_or_fail)

    def stop(self) -> None:
        """Drain every worker and end. Raises RuntimeError as `ask` does."""
        self._wait_for(self._operations.stop)

    def fork(self, environment: dict[str, str] | None, done: Done) -> None:
        """Add one worker. `done` receives its handle when it is forked. Called on the loop."""
        forked: Done = Future()
        forked.add_done_callback(lambda _: self._give(forked, done))
        self._operations.fork(environment, forked)

    def successor(self, leaving: Worker) -> Worker:
        """The newest worker in the slot of a worker that leaves, or that worker itself if no other follows."""
        try:
            found: Worker | None = self.wait(partial(self._find_successor, leaving.id))
        except RuntimeError:  # The cluster has ended.
            return leaving
        return found or leaving

    def _find_successor(self, slot: int, done: Done) -> None:
        forked = self._operations.successor(slot)
        done.set_result(None if forked is None else self._roster.find(forked))

    def _wait_for(self, operation: Callable[..., object], *arguments: object) -> None:
        """Call `operation` on the loop, and wait until it has returned."""
        self.wait(lambda done: done.set_result(operation(*arguments)))

    def _give(self, forked: Done, done: Done) -> None:
        """Pass the handle of the forked worker to `done`. Called on the loop, where the roster still has the worker."""
        if error := forked.exception():
            done.set_exception(error)
        else:
            done.set_result(self._roster.find(forked.result()))

    # ---- the observer (master/context.py)

    def note_event(self, event: events.Event) -> None:
        """Start the handlers at Start. From then on operations are possible."""
        if isinstance(event, events.Start):
            self._handlers.start(self._context.log)
            self._has_started = True

    def note_action(self, action: actions.Action) -> None:
        """Do nothing: no action is an event for a handler."""

    def note_worker_event(self, worker_event: WorkerEvent) -> None:
        """Queue a worker event for the handlers."""
        worker = self._roster.take(worker_event)
        self._handlers.post(worker_event.name, worker, *worker_event.arguments)

    def message_received(self, incoming: Incoming, worker_event: WorkerEvent) -> None:
        """Queue a message of the application in a worker for the handlers."""
        self._handlers.post_message(self._roster.find(worker_event), incoming)

    # ---- internals

    def _carry_out(self, command: Command, future: Done) -> None:
        try:
            command(future)
        except Exception as error:  # The caller receives it through the future.
            _fail(future, error)

    def _make(self, worker_event: WorkerEvent) -> Worker:
        child = self._context.children.get(worker_event.serial)
        assert child is not None  # The handle is created at the fork, when the worker is in the table.
        return Worker(
            worker_event.slot,
            worker_event.generation,
            self._context.conversations.conversation(child),
            partial(self._wait_for, self._operations.kill, worker_event.serial),
            partial(self._wait_for, self._operations.leave, worker_event.serial),
            lambda: self.ask(partial(self._operations.debug, worker_event.serial)),
        )


def _fail(future: Done, error: Exception) -> None:
    if not future.done():
        future.set_exception(error)

"""What a program has of its master: handles of the workers, events for its handlers, and its orders carried out.

The program's threads come in by `ask`; everything else is called on the master's loop.
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
from clusterd.wire.conversation import Incoming
from clusterd.wire.hooks import WorkerEvent

_ENDED = "the cluster has stopped"

Command = Callable[[Done], None]


class Primary:
    """The program's end of the master."""

    def __init__(self, handlers: Handlers, context: MasterContext, operations: Operations) -> None:
        self._handlers = handlers
        self._context = context
        self._operations = operations
        self._roster = Roster(self._make)
        self._lock = threading.Lock()
        self._thread = threading.get_ident()
        """The one that runs the loop."""
        self._has_started = False
        self._has_ended = False
        self._asked: set[Done] = set()
        """What a thread waits for."""

    # ---- in any thread

    def ask(self, command: Command) -> Done:
        """Have `command` carried out on the loop; it sees to it that the future that it is given is done some time.

        Raises RuntimeError where there is no loop; the future fails with it when there is none later.
        """
        future: Done = Future()
        self.check_running()
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
            self._context.loop.call_soon_threadsafe(self._carry_out, command, future)
        return future

    def check_running(self) -> None:
        """Raises RuntimeError where `ask` does."""
        if not self._has_started:
            raise RuntimeError(NOT_YET)
        if self._has_ended:
            raise RuntimeError(_ENDED)

    def wait(self, command: Command) -> Any:
        """What comes of `command`. Raises what it does, and RuntimeError as `ask`."""
        future = self.ask(command)
        if threading.get_ident() == self._thread and not future.done():
            raise RuntimeError("the thread that runs the cluster cannot wait for it: do this in a handler or a thread")
        return future.result()

    def workers(self) -> dict[int, Worker]:
        """Who is in each slot: the one that serves, or else the newest."""
        return self._roster.workers()

    def end(self) -> None:
        """The master's loop turns no more."""
        with self._lock:
            self._has_ended = True
            waiting = list(self._asked)
        for future in waiting:
            _fail(future, RuntimeError(_ENDED))

    # ---- orders

    def scale(self, workers: int) -> None:
        """Have so many workers. Raises ValueError, and RuntimeError as `ask`."""
        self._wait_for(self._operations.scale, workers)

    def reload(self) -> Done:
        """A rollout; the future is given its generation, or fails. Raises RuntimeError as `ask`."""
        return self.ask(self._operations.reload_or_fail)

    def stop(self) -> None:
        """Drain everything and end. Raises RuntimeError as `ask`."""
        self._wait_for(self._operations.stop)

    def fork(self, environment: dict[str, str] | None, done: Done) -> None:
        """One worker more, which `done` is given when it is forked."""
        forked: Done = Future()
        forked.add_done_callback(lambda _: self._give(forked, done))
        self._operations.fork(environment, forked)

    def _wait_for(self, operation: Callable[..., object], *arguments: object) -> None:
        """Until `operation` has returned, on the loop."""
        self.wait(lambda done: done.set_result(operation(*arguments)))

    def _give(self, forked: Done, done: Done) -> None:
        """On the loop, where the worker is still known."""
        if error := forked.exception():
            done.set_exception(error)
        else:
            done.set_result(self._roster.find(forked.result()))

    # ---- what the master tells (master/context.py)

    def note_event(self, event: events.Event) -> None:
        """At the start the handlers begin, and commands make sense."""
        if isinstance(event, events.Start):
            self._handlers.start(self._context.log)
            self._has_started = True

    def note_action(self, action: actions.Action) -> None:
        """Nothing of it is a handler's."""

    def note_worker_event(self, worker_event: WorkerEvent) -> None:
        """What has become of a worker is told to the handlers."""
        worker = self._roster.take(worker_event)
        self._handlers.post(worker_event.name, worker, *worker_event.arguments)

    def heard(self, incoming: Incoming, worker_event: WorkerEvent) -> None:
        """A worker's application has sent a message, which a handler is to answer."""
        self._handlers.post_message(self._roster.find(worker_event), incoming)

    # ---- within

    def _carry_out(self, command: Command, future: Done) -> None:
        try:
            command(future)
        except Exception as error:  # it belongs to the one who asked
            _fail(future, error)

    def _make(self, worker_event: WorkerEvent) -> Worker:
        child = self._context.children.get(worker_event.serial)
        assert child is not None  # who is made known at the fork
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

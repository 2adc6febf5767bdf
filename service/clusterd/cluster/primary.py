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
from clusterd.log import Logger
from clusterd.master.children.table import Child
from clusterd.master.context import MasterContext
from clusterd.master.operations import Done, Operations
from clusterd.master.worker_events import WorkerEvents
from clusterd.supervisor import actions, events
from clusterd.systemd.sockets import address_text
from clusterd.wire.conversation import Incoming
from clusterd.wire.hooks import WorkerEvent

_ENDED = "the cluster has stopped"

Command = Callable[[Done], None]


class Primary:
    """The program's end of the master."""

    def __init__(self, handlers: Handlers, log: Logger) -> None:
        self._handlers = handlers
        self._log = log
        self._master: MasterContext | None = None
        self._roster = Roster(self._make)
        self._lock = threading.Lock()
        self._thread: int | None = None
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
        loop, future = self._context.loop, Future[Any]()
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
            loop.call_soon_threadsafe(self._carry_out, command, future)
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
            raise RuntimeError("the thread that runs the cluster can not wait for it: do this in a handler or a thread")
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

    def scale(self, workers: int, done: Done) -> None:
        """Have so many workers."""
        self._operations.scale(workers, done)

    def fork(self, environment: dict[str, str] | None, done: Done) -> None:
        """One worker more, which `done` is given when it is forked."""
        forked: Done = Future()
        forked.add_done_callback(lambda _: self._give(forked, done))
        self._operations.fork(environment, forked)

    def reload(self, done: Done) -> None:
        """A rollout; `done` is given its generation, or fails."""
        self._operations.reload(done)

    def stop(self, done: Done) -> None:
        """Drain everything and end."""
        self._operations.stop(done)

    def _give(self, forked: Done, done: Done) -> None:
        """On the loop, where the worker is still known."""
        if error := forked.exception():
            done.set_exception(error)
        else:
            done.set_result(self._roster.find(forked.result()))

    # ---- what the master tells (master/context.py)

    def begin(self, context: MasterContext) -> None:
        """There is a master."""
        self._master, self._thread = context, threading.get_ident()
        self._operations = Operations(context)
        addresses = [address_text(sock) for sock in context.listeners.public]
        self._worker_events = WorkerEvents(context.children, addresses, self._happened)

    def note_event(self, event: events.Event) -> None:
        """Something is about to be decided; or it begins, and commands make sense."""
        if isinstance(event, events.Start):
            self._handlers.start(self._log)
            self._has_started = True
        self._worker_events.note_event(event)

    def note_action(self, action: actions.Action) -> None:
        """Something was decided, and done."""
        self._worker_events.note_action(action)
        self._operations.note_action(action)

    def heard(self, child: Child, incoming: Incoming) -> None:
        """A worker's application has said something."""
        worker = self._roster.find(self._worker_events.message(child.serial, incoming.value))
        self._handlers.post_message(worker, incoming)

    # ---- within

    @property
    def _context(self) -> MasterContext:
        if self._master is None:
            raise RuntimeError(NOT_YET)
        return self._master

    def _carry_out(self, command: Command, future: Done) -> None:
        try:
            command(future)
        except Exception as error:  # it belongs to the one who asked
            _fail(future, error)

    def _happened(self, worker_event: WorkerEvent) -> None:
        worker = self._roster.take(worker_event)
        self._handlers.post(worker_event.name, worker, *worker_event.arguments)
        self._operations.note_worker_event(worker_event)

    def _make(self, worker_event: WorkerEvent) -> Worker:
        child = self._context.children.get(worker_event.serial)
        assert child is not None  # who is made known at the fork
        return Worker(
            worker_event.slot,
            worker_event.generation,
            self._context.messages.conversation(child),
            lambda number: self.wait(partial(self._operations.kill, worker_event.serial, number)),
            lambda: self.wait(partial(self._operations.leave, worker_event.serial)),
            lambda: self.ask(partial(self._operations.debug, worker_event.serial)),
        )


def _fail(future: Done, error: Exception) -> None:
    if not future.done():
        future.set_exception(error)

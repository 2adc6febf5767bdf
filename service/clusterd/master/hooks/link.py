"""The master's end of the conversation with one hooks process (`wire/hooks.py`).

The master sends worker events and messages. The hooks process asks for operations. It runs the application's code, so
every request is checked before it is carried out.
"""

import json
import signal
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any

from clusterd.config.worker_environment import checked_environment
from clusterd.master.children.child import Child
from clusterd.master.context import MasterContext
from clusterd.master.hooks.decisions.feed import Entry, Snapshot
from clusterd.master.operations import Done, Operations
from clusterd.wire.conversation import MOST_WAITING, Conversation, Disconnected, Incoming
from clusterd.wire.hooks import (
    KNOWN,
    SETUP,
    WORKER,
    Operation,
    OperationRequest,
    WorkerEvent,
    failed,
    read_request,
    succeeded,
    write_worker_event,
)
from clusterd.wire.messages import Ack, AppMessage
from clusterd.wire.values import RELAYED

MOST_RELAYED = 2 * MOST_WAITING
"""The most messages that wait for one worker.

A hooks process stops at half of it. The messages of a hooks process that has died count too, hence the factor 2.
"""


class HooksLink:
    """The link to one hooks process. `on_settled` is called when the process has handled an entry."""

    def __init__(
        self, child: Child, context: MasterContext, operations: Operations, on_settled: Callable[[], None]
    ) -> None:
        self._context = context
        self._operations = operations
        self._on_settled = on_settled
        self._conversation = Conversation(RELAYED)
        self._unanswered: Incoming | None = None
        """The worker's request that was delivered to the process and has no answer yet."""
        if child.channel is not None:
            self._conversation.attach(child.channel, context.loop, self._asked)

    def received(self, message: AppMessage | Ack) -> None:
        """Handle a message of the process."""
        self._conversation.received(message)

    def tell(self, entry: Entry | Snapshot) -> None:
        """Deliver an entry. The next one may follow when `on_settled` was called."""
        if isinstance(entry, Snapshot):
            self._tell_snapshot(entry)
            return
        document = write_worker_event(entry.worker_event)
        incoming: Incoming | None = entry.incoming
        if incoming is None or not incoming.wants_reply:
            self._conversation.send(document, on_over=self._over)
            return
        self._unanswered = incoming
        reply = self._conversation.request(document, None, on_over=self._over)
        reply.when_done(partial(self._answered, incoming))

    def _tell_snapshot(self, snapshot: Snapshot) -> None:
        for last in snapshot.workers:  # A packet holds some hundreds of workers, and there may be more.
            state = write_worker_event(replace(last, name=WORKER, arguments=()))
            self._conversation.send(state, most_waiting=None)
        end = {"name": SETUP if snapshot.is_beginning else KNOWN}
        self._conversation.send(end, most_waiting=None, on_over=self._over)

    def end(self, why: str) -> None:
        """End the conversation with a process that has ended. A worker that waits for its answer receives `why`."""
        self._conversation.end()
        if self._unanswered is not None:
            self._unanswered.refuse(why)
            self._unanswered = None

    def _over(self, is_dealt_with: bool) -> None:
        if is_dealt_with:
            self._on_settled()

    def _answered(self, incoming: Incoming, future: Done) -> None:
        error = future.exception()
        if isinstance(error, Disconnected):
            return  # `end` answers the worker.
        self._unanswered = None
        if error is None:
            incoming.reply(future.result())
        else:
            incoming.refuse(str(error))

    # ---- operations

    def _asked(self, incoming: Incoming) -> None:
        incoming.taken()
        done: Done = Future()
        done.add_done_callback(partial(_conclude, incoming))
        try:
            self._carry_out(read_request(incoming.value), done)
        except Exception as error:  # It is raised in the hooks process, which has asked for the operation.
            if not done.done():
                done.set_exception(error)

    def _carry_out(self, request: OperationRequest, done: Done) -> None:
        value = request.value
        match request.operation:
            case Operation.SEND:
                self._send(request, done)
            case Operation.REQUEST:
                talk = self._conversation_with(request.serial)
                talk.request(value, None, most_waiting=MOST_RELAYED).when_done(lambda future: _pass_on(future, done))
            case Operation.KILL:
                self._operations.kill(request.serial, signal.Signals(value))
                done.set_result(None)
            case Operation.LEAVE:
                self._operations.leave(request.serial)
                done.set_result(None)
            case Operation.DEBUG:
                self._operations.debug(request.serial, done)
            case Operation.FORK:
                self._operations.fork(None if value is None else checked_environment(value), done)
            case Operation.SUCCESSOR:
                done.set_result(self._operations.successor(value))
            case Operation.SCALE:
                done.set_result(self._operations.scale(value))
            case Operation.RELOAD:
                self._operations.reload_or_fail(done)
            case Operation.STOP:
                self._operations.stop()
                done.set_result(None)

    def _send(self, request: OperationRequest, done: Done) -> None:
        def over(is_dealt_with: bool) -> None:
            if is_dealt_with:
                done.set_result(None)
            else:
                done.set_exception(Disconnected(f"the worker with the number {request.serial} is gone"))

        self._conversation_with(request.serial).send(request.value, most_waiting=MOST_RELAYED, on_over=over)

    def _conversation_with(self, serial: int) -> Conversation:
        worker = self._operations.worker(serial)
        if worker is None:
            raise Disconnected("the worker is gone")
        return self._context.conversations.conversation(worker)


def size_of(value: Any) -> int:
    """The size of a waiting message: the length of its JSON."""
    return len(json.dumps(value))


def _conclude(incoming: Incoming, done: Done) -> None:
    if error := done.exception():
        incoming.reply(failed(error))
        return
    value = done.result()
    incoming.reply(succeeded(write_worker_event(value) if isinstance(value, WorkerEvent) else value))


def _pass_on(future: Done, done: Done) -> None:
    if error := future.exception():
        done.set_exception(error)
    else:
        done.set_result(future.result())

"""The process that runs an application's hooks: it receives one event at a time, and calls the handlers for it.

The main thread runs an event loop that only talks to the master. The handlers run in a thread of their own, like those
of `Cluster`.
"""

import asyncio
import importlib
import os
import socket
import time
from functools import partial
from typing import Any

from clusterd.app.application import enter_directory
from clusterd.app.errors import LoadError, describe
from clusterd.config.model import from_json
from clusterd.config.written import nested, written
from clusterd.hooks import api
from clusterd.hooks.handle import Worker
from clusterd.hooks.handlers import Handlers, IncomingMessage
from clusterd.hooks.master_connection import MasterConnection, Talk
from clusterd.hooks.roster import Roster
from clusterd.linux import masters_signals
from clusterd.linux.prctl import die_with_parent
from clusterd.linux.stacks import write_stacks_to
from clusterd.linux.title import set_title
from clusterd.log import Level, Logger, open_sink
from clusterd.log.output import mend_output, protect_output
from clusterd.process.ending import Ending
from clusterd.process.first_order import first_order
from clusterd.process.fork_hygiene import flush_output
from clusterd.process.own_log import configure_log
from clusterd.wire import hooks as wire
from clusterd.wire.channel import Channel, Received
from clusterd.wire.conversation import Incoming
from clusterd.wire.hooks import Operation, WorkerEvent, read_worker_event
from clusterd.wire.messages import (
    Ack,
    AppMessage,
    Attach,
    Importing,
    Loaded,
    LoadFailed,
    Message,
    SetLogLevel,
    encode,
)
from clusterd.wire.packets import close_all, send
from clusterd.wire.values import encoded

LEAVE_SECONDS = 1.0
"""How long to wait for the end of the handlers' thread, which has nothing left to do."""


def main(channel_descriptor: int) -> None:
    """Import the hooks, and call their handlers until the master closes its end of the channel."""
    # Two hooks processes must never run at once, even if the master is killed and another one follows.
    die_with_parent()
    masters_signals.ignore()
    channel, order, descriptors = first_order(channel_descriptor, Attach)
    set_title(f"hooks gen {order.generation}", f"clusterd-h{order.generation}")
    write_stacks_to(*descriptors)
    protect_output(os.environ)
    log = Logger(open_sink(os.environ), Level(order.log_level)).bind(generation=order.generation, pid=os.getpid())
    config = from_json(order.config)
    configure_log(log, config.log)
    _tell(channel, Importing(0.0))
    started = time.monotonic()
    api.prepare(nested(written(config)))
    try:
        _import(order.config)
    except LoadError as error:
        _tell(channel, LoadFailed(error.reason, error.traceback, error.permanent))
        flush_output()
        os._exit(1)
    channel.settimeout(None)
    process = HooksProcess(channel, order, log)
    process.run(time.monotonic() - started)
    Ending(time.monotonic(), log).leave(0)


def _tell(channel: socket.socket, message: Message) -> None:
    """Send a message. Exits if the master is gone: it may have died before this process could ask to die with it."""
    try:
        send(channel, encode(message))
    except BrokenPipeError:
        os._exit(0)


def _import(config: dict[str, Any]) -> None:
    """Import the module that the setting `hooks` names. Raises LoadError."""
    name = config["hooks"]
    enter_directory(config["directory"])
    try:
        importlib.import_module(name)
    except BaseException as error:  # Includes sys.exit().
        raise describe(error, f"hooks: {name}") from error
    if api.registry.is_empty:
        hint = 'register one with @cluster.on("exit") and so on, after `from clusterd import cluster`'
        raise LoadError(f"hooks: {name} registers no handler; {hint}", "")


class HooksProcess:
    """Owns the event loop and the handlers' thread."""

    def __init__(self, channel: socket.socket, order: Attach, log: Logger) -> None:
        self._loop = asyncio.SelectorEventLoop()
        self._log = log
        self._master = MasterConnection(log)
        self._roster = Roster(self._make)
        self._talks: dict[int, Talk] = {}
        self._handlers = Handlers(api.registry)
        self._generation = order.generation
        self._channel = Channel(channel, self._loop, self._on_message, lambda _: self._loop.stop())
        self._master.conversation.attach(self._channel, self._loop, self._told)
        api.begin(self._master, self._roster)

    def run(self, import_seconds: float) -> None:
        """Report that the hooks are loaded, and run until the master closes the channel."""
        self._handlers.start(self._log)
        self._channel.send(Loaded(self._generation, import_seconds))
        self._loop.run_forever()
        self._master.conversation.end()
        self._handlers.finish(LEAVE_SECONDS)

    def _on_message(self, received: Received) -> None:
        close_all(received.descriptors)
        mend_output()
        match received.message:
            case AppMessage() | Ack() as said:
                self._master.conversation.received(said)
            case SetLogLevel(level):
                self._log.set_level(Level(level))
            case unexpected:
                self._log.warning("unexpected message from the master", message=type(unexpected).__name__)

    def _told(self, incoming: Incoming) -> None:
        match incoming.value["name"]:
            case wire.SETUP:
                self._handlers.post(wire.SETUP, None, api.FACTS["settings"](), taken=incoming.taken)
            case wire.KNOWN:
                incoming.taken()
            case wire.WORKER:
                self._changed(read_worker_event(incoming.value))
                incoming.taken()
            case wire.MESSAGE:
                worker_event = read_worker_event(incoming.value)
                passed = _Passed(incoming, *worker_event.arguments)
                self._handlers.post_message(self._roster.find(worker_event), passed)
            case event:
                worker_event = read_worker_event(incoming.value)
                worker = self._changed(worker_event)
                self._handlers.post(event, worker, *worker_event.arguments, taken=incoming.taken)

    def _changed(self, worker_event: WorkerEvent) -> Worker:
        worker = self._roster.take(worker_event)
        if worker_event.state.is_dead:
            self._talks.pop(worker_event.serial).end()
        return worker

    def _make(self, worker_event: WorkerEvent) -> Worker:
        serial = worker_event.serial
        talk = self._talks[serial] = Talk(self._master, serial)
        kill = partial(self._master.wait, Operation.KILL, serial)
        leave_slot = partial(self._master.wait, Operation.LEAVE, serial)
        debug = partial(self._master.request, Operation.DEBUG, serial)
        return Worker(worker_event.slot, worker_event.generation, talk, kill, leave_slot, debug)


class _Passed(IncomingMessage):
    """A message of a worker, relayed by the master."""

    def __init__(self, incoming: Incoming, value: Any) -> None:
        self._incoming = incoming
        self._value = value

    @property
    def value(self) -> Any:
        """The message."""
        return self._value

    @property
    def wants_reply(self) -> bool:
        """Whether the worker waits for a reply."""
        return self._incoming.wants_reply

    def reply(self, value: Any) -> None:
        """Send the reply. Raises TypeError and ValueError if the value cannot be sent."""
        encoded(value)
        self._incoming.reply(value)

    def refuse(self, why: str) -> None:
        """Refuse to reply, with a reason."""
        self._incoming.refuse(why)

    def taken(self) -> None:
        """Report that the message was handled. The master then sends the next entry."""
        self._incoming.taken()

"""A worker's end of the channel: handles the messages of the master that every kind of worker understands."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable

from clusterd.http.engine import InFlight
from clusterd.linux import masters_signals
from clusterd.linux.prctl import allow_tracer
from clusterd.log import Level, Logger
from clusterd.metrics.application.instrumentation import Instrumentation
from clusterd.process.ending import Ending
from clusterd.wire.channel import Channel, Received
from clusterd.wire.messages import (
    Ack,
    AppMessage,
    Examine,
    MasterChanged,
    Message,
    Retire,
    SetLogLevel,
    StacksTold,
    StartDebugger,
    TellMetrics,
    TellStacks,
)
from clusterd.wire.packets import close_all, peer_pid
from clusterd.worker import api
from clusterd.worker.diagnosis.debugger import Debugger
from clusterd.worker.diagnosis.examiner import Examiner
from clusterd.worker.diagnosis.stacks import describe
from clusterd.worker.handling import Handling
from clusterd.worker.metrics_teller import MetricsTeller
from clusterd.worker.shortage import Shortage

TICK_SECONDS = 0.25
"""Interval of the heartbeat by which a worker's event loop shows the master that it turns."""


class ControlChannel:
    """Owns the channel and the application's conversation over it.

    `on_order` takes all other messages, and MasterChanged, to tell again what lasts. It returns False for a message
    that it does not know. `on_alone` is called when the worker must drain without orders: after a SIGTERM, or because
    the master is gone. `requests` returns the requests in flight.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        log: Logger,
        on_order: Callable[[Received], bool],
        on_alone: Callable[[], None],
        requests: Callable[[], list[InFlight]],
        instrumentation: Instrumentation | None,
    ) -> None:
        self._loop = loop
        self._log = log
        self._on_order = on_order
        self._on_alone = on_alone
        self._requests = requests
        self._master = peer_pid(sock)
        self._lasting: dict[type[Message], Message] = {}
        """What a master has to know for as long as this worker lives."""
        self.has_lost_master = False
        self.shortage = Shortage(log)
        self._debugger = Debugger(loop, self.send)
        self._examiner = Examiner(loop, requests)
        self._metrics = MetricsTeller(instrumentation, loop, self.send, log)
        self._channel = Channel(sock, loop, self._on_message, self._on_end)
        self._conversation = api.conversation()
        self._handling = Handling(api.handlers, loop, log)
        self._conversation.attach(self._channel, loop, self._handling.deliver)

    def send(self, message: Message, descriptors: tuple[int, ...] = ()) -> None:
        """Send a message to the master. The descriptors still belong to the caller."""
        self._channel.send(message, descriptors)

    def send_lasting(self, message: Message) -> None:
        """Send a message to the master, and again to each master that follows it."""
        self._lasting[type(message)] = message
        self.send(message)

    def obey_stops(self) -> None:
        """Install the handlers that drain this worker at a SIGTERM or SIGINT (`systemctl kill -s INT`).

        Does not use loop.add_signal_handler(), which requires that the main thread runs the event loop.
        """
        masters_signals.obey_stops(self._terminated)
        os.register_at_fork(after_in_child=self._let_go_of_child)

    def _terminated(self, number: int, _: object) -> None:
        self._loop.call_soon_threadsafe(self._on_terminate, signal.Signals(number).name)

    def _let_go_of_child(self) -> None:
        """Detach a child that the application has forked (`multiprocessing`): it has no conversation."""
        api.end()
        self._examiner.let_go_of_child()
        # The child shares this descriptor with the worker. A signal to the child would wake the worker's event loop.
        signal.set_wakeup_fd(-1)

    def finish_handling(self, ending: Ending) -> None:
        """Wait until the application's handlers have handled what has arrived."""
        ending.run(self._loop, self._handling.finished(), f"the handling of {self._handling.unhandled} messages")

    def close(self, ending: Ending) -> None:
        """Send the application's last messages."""
        ending.run(self._loop, self._conversation.flushed(), "the sending of the last messages")

    def _on_message(self, received: Received) -> None:
        if received.lacks_descriptors:
            # The connections that should have arrived stay with their sender.
            self.shortage.of_descriptors()
        match received.message:
            case AppMessage() | Ack() as said:
                close_all(received.descriptors)
                self._conversation.received(said)
            case MasterChanged(pid):
                self._master_changed(pid)
                self._on_order(received)
            case SetLogLevel(level):
                self._log.set_level(Level(level))
            case StartDebugger(host, port):
                self._debugger.start(host, port)
            case TellMetrics(number):
                self._metrics.asked(number)
            case TellStacks(number):
                self.send(StacksTold(number, describe(self._requests(), self._loop)))
            case Examine() as order:
                self._examiner.asked(order, received.descriptors)
            case order:
                if isinstance(order, Retire) and not order.linger:
                    # A worker that lingers may have to serve again.
                    api.stop_event.set()
                if not self._on_order(received):
                    self._log.warning("unexpected message from the master", message=type(order).__name__)
                    close_all(received.descriptors)

    def _master_changed(self, pid: int) -> None:
        """Make the new master's acquaintance. One that says it again goes on with its conversation."""
        allow_tracer(pid)
        if pid != self._master:
            self._master = pid
            self._log.info("another master has taken over", master=pid)
            self._conversation.change_peer()
        for message in self._lasting.values():
            self.send(message)

    def _on_end(self, reason: str) -> None:
        """The master is gone: answer what is in flight and exit."""
        self._log.warning("the master is gone, draining", reason=reason)
        self.has_lost_master = True
        self._conversation.end()
        self._drain_alone()

    def _on_terminate(self, name: str) -> None:
        self._log.info(f"{name} received, draining")
        self._drain_alone()

    def _drain_alone(self) -> None:
        api.stop_event.set()
        self._on_alone()

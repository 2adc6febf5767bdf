"""A worker's end of the channel: what every worker does with what the master says, whatever else it does."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from time import monotonic

from clusterd.http.engine import InFlight
from clusterd.linux import masters_signals
from clusterd.log import Level, Logger
from clusterd.wire.channel import Channel, Received
from clusterd.wire.messages import Ack, AppMessage, Message, Retire, SetLogLevel, StacksTold, StartDebugger, TellStacks
from clusterd.wire.packets import close_all
from clusterd.worker import api
from clusterd.worker.debugger import Debugger
from clusterd.worker.draining.drain import LAST_WORDS_SECONDS
from clusterd.worker.handling import Handling
from clusterd.worker.stacks import describe

TICK_SECONDS = 0.25
"""How often the loop of a worker shows the master that it turns."""


class ControlChannel:
    """Owns the channel, and what the application says and is told over it.

    `on_order` takes all other messages; it returns False for one that it knows nothing of. `on_alone` is called when
    this worker is to drain without being told how: by a SIGTERM, or because nobody manages it any more. `requests`
    tells what is under way.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        log: Logger,
        on_order: Callable[[Received], bool],
        on_alone: Callable[[], None],
        requests: Callable[[], list[InFlight]],
    ) -> None:
        self._loop = loop
        self._log = log
        self._on_order = on_order
        self._on_alone = on_alone
        self._requests = requests
        self._debugger = Debugger(loop, self.send)
        self._channel = Channel(sock, loop, self._on_message, self._on_end)
        self._conversation = api.conversation()
        self._handling = Handling(api.handlers, loop, log)
        self._conversation.attach(self._channel, loop, self._handling.deliver)

    def send(self, message: Message) -> None:
        """Tell the master something."""
        self._channel.send(message)

    def obey_stops(self) -> None:
        """Drain when one comes. Not with the loop's own handler, which needs the loop to be run by the main thread.

        `systemctl kill -s INT` is a stop as well.
        """
        masters_signals.obey_stops(self._terminated)
        os.register_at_fork(after_in_child=self._let_go_of_child)

    def _terminated(self, number: int, _: object) -> None:
        self._loop.call_soon_threadsafe(self._on_terminate, signal.Signals(number).name)

    def _let_go_of_child(self) -> None:
        """What the application has forked (`multiprocessing`) has nobody to talk to."""
        api.end()
        # The descriptor is the worker's own: what the child is told would wake its loop.
        signal.set_wakeup_fd(-1)

    def finish_handling(self, until: float) -> None:
        """Let the application's handlers get through with what has come, until then (`time.monotonic()`)."""
        if not self._handling.unhandled:
            return
        try:
            self._loop.run_until_complete(asyncio.wait_for(self._handling.finished(), max(0.0, until - monotonic())))
        except TimeoutError:
            self._log.warning("the worker leaves before its messages are handled", unhandled=self._handling.unhandled)

    def close(self) -> None:
        """Let out what the application has said last."""
        try:
            self._loop.run_until_complete(asyncio.wait_for(self._conversation.flushed(), LAST_WORDS_SECONDS / 2))
        except TimeoutError:
            self._log.warning("the master did not take the last messages", unsent=self._conversation.unsent)

    def _on_message(self, received: Received) -> None:
        if received.lacks_descriptors:
            # What should have come over it stays with its sender.
            self._log.warning("there are no descriptors left for connections: raise LimitNOFILE= of the unit")
        match received.message:
            case AppMessage() | Ack() as said:
                close_all(received.descriptors)
                self._conversation.received(said)
            case SetLogLevel(level):
                self._log.set_level(Level(level))
            case StartDebugger(host, port):
                self._debugger.start(host, port)
            case TellStacks(number):
                self.send(StacksTold(number, describe(self._requests(), self._loop)))
            case order:
                if isinstance(order, Retire) and not order.linger:
                    # One that lingers may have to go on.
                    api.stop_event.set()
                if not self._on_order(received):
                    self._log.warning("unexpected message from the master", message=type(order).__name__)
                    close_all(received.descriptors)

    def _on_end(self, reason: str) -> None:
        """Nobody manages this worker any more: it finishes what it holds and leaves."""
        self._log.warning("the master is gone, draining", reason=reason)
        self._conversation.end()
        self._drain_alone()

    def _on_terminate(self, name: str) -> None:
        self._log.info(f"{name} received, draining")
        self._drain_alone()

    def _drain_alone(self) -> None:
        api.stop_event.set()
        self._on_alone()

"""What a template does once it has loaded: it forks workers on request, and reaps those that are its own."""

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import NoReturn

from clusterd.config.model import AccessLog
from clusterd.linux import masters_signals
from clusterd.linux.title import set_title
from clusterd.log import Level, Logger
from clusterd.metrics.shared.scoreboard import LAYOUT
from clusterd.process.abandoned import end_processes_of_generation, wait_for_workers
from clusterd.process.ending import Ending
from clusterd.runtime import originals
from clusterd.template.forking import ForkRefused, fork_detached
from clusterd.template.own_forks import OwnForks
from clusterd.wire.messages import (
    Fork,
    ForkFailed,
    ForkSpare,
    Hello,
    Leave,
    MasterChanged,
    Message,
    ProtocolError,
    SetAccessLog,
    SetLogLevel,
    decode,
    encode,
)
from clusterd.wire.packets import Packet, close_all, receive, send
from clusterd.worker.boot import boot_worker
from clusterd.worker.boot_record import Boot, ForkContext

LEAVE_SECONDS = 3.0
"""The time for the end of a template. A little later the master kills it (`master/children/table.py`)."""


def leave(status: int, log: Logger, at_last: Callable[[], object] | None = None) -> NoReturn:
    """End this process. What the application's import has registered to run once runs here, and then `at_last`."""
    Ending(time.monotonic() + LEAVE_SECONDS, log).leave(status, at_last)


DRAIN_GRACE_SECONDS = 5.0
"""How much longer than `timeouts.drain` the workers of a dead master may take to end."""


class ForkServer:
    """Carries out the orders that come over `channel`. A forked spare goes on with it, with a channel of its own.

    `loaded` is the packet with which this template has told that it has loaded, with its descriptors.
    """

    def __init__(self, channel: socket.socket, fork_context: ForkContext, loaded: Packet, *, is_copy: bool) -> None:
        self._channel = channel
        self._fork_context = fork_context
        self._loaded: Packet | None = loaded
        """None in a spare: it has said Hello instead, and the master knows it by its pid."""
        self._is_spare = False
        self._may_leave = False
        self._is_copy = is_copy
        self._own = OwnForks()

    def run(self) -> NoReturn:
        """Carry out orders until the channel ends, and exit.

        The exit handlers of the import are for this process to run, unless it is the copy of one that will.
        """
        while True:
            ended, may_receive = self._own.wait(self._channel.fileno())
            for reaped in ended:
                self._say(reaped)
            if may_receive:
                packet = receive(self._channel)
                if packet is None:
                    self._leave()
                self._carry_out(decode(packet.data), packet.descriptors)

    def _leave(self) -> NoReturn:
        context, log = self._fork_context, self._fork_context.log
        has_lost_master = context.outlives_master and not self._may_leave and not self._is_spare
        if has_lost_master:  # Its workers drain, and may need what the import has started.
            seconds = context.config.timeouts.drain + DRAIN_GRACE_SECONDS
            wait_for_workers(context.marked_master, context.generation, seconds)
        if self._is_copy:
            if has_lost_master:
                self._end_the_rest()
            log.flush()
            os._exit(0)
        leave(0, log, self._end_the_rest if has_lost_master else None)

    def _end_the_rest(self) -> None:
        context = self._fork_context
        end_processes_of_generation(context.marked_master, context.generation, context.log)

    def _carry_out(self, order: Message, descriptors: tuple[int, ...]) -> None:
        if isinstance(order, Fork | ForkSpare):
            # A spare that receives an order to fork has been promoted to template.
            self._is_spare = False
            self._set_title("template", "t")
            if self._fork(order):
                self._live_on(order, descriptors)
                return
        elif isinstance(order, SetLogLevel):
            self._fork_context.log.set_level(Level(order.level))
        elif isinstance(order, SetAccessLog):
            self._fork_context = _with_access_log(self._fork_context, AccessLog(order.mode))
        elif isinstance(order, MasterChanged):
            self._tell_again()
        elif isinstance(order, Leave):
            self._may_leave = True
        else:
            raise ProtocolError(f"unexpected message {order}")
        close_all(descriptors)

    def _tell_again(self) -> None:
        if self._loaded is not None:
            self._send(self._loaded.data, self._loaded.descriptors)

    # ---- forks

    def _fork(self, order: Fork | ForkSpare) -> bool:
        """Fork what is ordered. True in the child. A fork that is refused is told to the master."""
        with_threads = isinstance(order, Fork)
        try:
            if order.reaped_by_template:
                return self._own.fork(order.serial, with_threads=with_threads)
            if fork_detached(with_threads=with_threads):
                self._own.let_go()
                return True
        except ForkRefused as refused:
            self._say(ForkFailed(order.serial, str(refused)))
        return False

    def _live_on(self, order: Fork | ForkSpare, descriptors: tuple[int, ...]) -> None:
        """Be the worker that was ordered, and never return; or be the spare, and return to wait for orders."""
        self._channel.close()
        channel = _patient(descriptors[0])
        if isinstance(order, Fork):
            environment, stacks = order.environment, descriptors[1]
            boot_worker(Boot(self._fork_context, order.serial, order.slot, order.row, environment, channel, stacks))
        self._channel, self._loaded, self._is_copy = channel, None, False
        self._is_spare = True
        masters_signals.ignore()
        self._set_title("spare", "s")
        self._say(Hello(order.serial, LAYOUT))

    def _set_title(self, what: str, letter: str) -> None:
        generation = self._fork_context.generation
        set_title(f"{what} gen {generation}", f"clusterd-{letter}{generation}")

    def _say(self, message: Message) -> None:
        self._send(encode(message))

    def _send(self, packet: bytes, descriptors: tuple[int, ...] = ()) -> None:
        with suppress(OSError):  # There is no master any more, as the end of the channel says next.
            send(self._channel, packet, descriptors)


def _with_access_log(fork_context: ForkContext, mode: AccessLog) -> ForkContext:
    """Return what future workers start with."""
    config = fork_context.config
    return replace(fork_context, config=replace(config, log=replace(config.log, access=mode)))


def _patient(descriptor: int) -> socket.socket:
    """Return a channel without a timeout, also if the application has called socket.setdefaulttimeout()."""
    channel = originals.socket(fileno=descriptor)
    channel.settimeout(None)
    return channel

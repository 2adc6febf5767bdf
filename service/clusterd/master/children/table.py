"""The process table of the master: it enters children, checks the sender of each message, and reaps.

A child is entered before its process exists, under the serial that the supervisor gave it. The kernel reports its pid
with its Hello message (SO_PASSCRED, unix(7)). A child leaves the table when it is reaped, never because its channel
has ended.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from clusterd.config.model import AccessLog, TcpAddress
from clusterd.linux.stacks import new_stacks_file
from clusterd.log import Level
from clusterd.wire.channel import Channel, Received
from clusterd.wire.messages import Hello, Message, ProtocolError, StandsAside
from clusterd.wire.packets import close_all, socketpair

_OF_THIS_THREAD = 0x20000000
"""__WNOTHREAD, wait(2). Processes that other threads have started, such as a program's handlers, are left to them."""

UNHEARD_SECONDS = 5.0
"""How long a process may live on after its channel has ended. The master cannot control it any more."""


class Kind(Enum):
    """The kind of a child process."""

    TEMPLATE = "template"
    SPARE = "spare template"
    WORKER = "worker"
    HOOKS = "hooks process"


_FORKED = (Kind.SPARE, Kind.WORKER)
"""What a template forks."""


@dataclass(slots=True)
class Child:
    """One process, from the decision to create it until it is reaped. The serials of hooks processes are negative."""

    serial: int
    kind: Kind
    generation: int
    slot: int = 0
    """0 unless the child is a worker."""
    row: int | None = None
    """The scoreboard row that the worker uses."""
    pid: int | None = None
    copy: int | None = None
    """The pid of the process that speaks for a template that stands aside (template/process.py)."""
    stacks: int = -1
    stacks_read: int = 0
    log_level: Level | None = None
    """The level that the master last sent to it; None if it has sent none."""
    access_log: AccessLog | None = None
    """The mode of the access log that the master last sent to it; None if it has sent none."""
    stacks_asked_for: bool = False
    """It was asked for its stacks over the channel and has not answered yet."""
    is_heard: bool = False
    """The master has received a message from it."""
    signal_asked_for: str = ""
    """The signal that an operator or a program had sent to it, and the sender, in words."""
    debugger: TcpAddress | None = None
    """The address at which a debugger may attach to it."""
    doomed: bool = False
    """The master has killed it. If it has no pid yet, it is killed at its Hello message."""
    channel: Channel | None = field(default=None, repr=False)

    def close_stacks(self) -> None:
        """Close the file that receives the stacks."""
        if self.stacks >= 0:
            os.close(self.stacks)
            self.stacks = -1

    def fields(self) -> dict[str, object]:
        """The log fields that identify this child."""
        slot = {"slot": self.slot} if self.slot else {}
        return {**slot, "generation": self.generation, "pid": self.pid}


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a child. `how` describes it in words."""

    child: Child
    how: str
    by_signal: bool
    cpu_seconds: float
    code: int | None = None
    """The exit status, or the negative number of the signal, as in `subprocess`. None if there never was a process."""


class Children:
    """Owns every process that the master started or adopted."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_message: Callable[[Child, Received], None],
        on_hello: Callable[[Child], None],
        on_death: Callable[[Death], None],
    ) -> None:
        self._loop = loop
        self._on_message = on_message
        self._on_hello = on_hello
        self._on_death = on_death
        self._by_serial: dict[int, Child] = {}
        self._by_pid: dict[int, Child] = {}
        self.orphans_reaped = 0
        """The number of orphans that were reaped: the master is a subreaper and inherits them."""
        self.access_log: AccessLog | None = None
        """Which requests they log, once that was set."""
        self.messages_dropped = 0
        """The number of messages that were dropped because their sender was not the expected process."""

    def get(self, serial: int) -> Child | None:
        """The child with this serial, if it is alive or being created."""
        return self._by_serial.get(serial)

    @property
    def pids(self) -> set[int]:
        """The pids of the children, as far as they are known."""
        return set(self._by_pid)

    def all(self) -> list[Child]:
        """Every child that is alive or being created."""
        return list(self._by_serial.values())

    def enter(self, child: Child) -> socket.socket:
        """Put `child` in the table. Returns the other end of its channel, which the caller passes on and closes.

        Raises OSError if no descriptors are left. `child` is then not in the table.
        """
        if child.kind is not Kind.SPARE:
            child.stacks = new_stacks_file(f"clusterd-stacks-{child.serial}")
        try:
            ours, theirs = socketpair()
        except OSError:
            child.close_stacks()
            raise
        # Set before the first message: the kernel attaches the sender's pid at the time of sending.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._listen(child, ours)
        return theirs

    def adopt(self, child: Child, pid: int, channel: socket.socket) -> None:
        """Put a living process in the table that an earlier program of the master has started."""
        self._listen(child, channel)
        self.born(child, pid)

    def _listen(self, child: Child, channel: socket.socket) -> None:
        child.channel = Channel(
            channel,
            self._loop,
            lambda received: self._received(child, received),
            lambda reason: self._channel_ended(child, reason),
        )
        self._by_serial[child.serial] = child

    def born(self, child: Child, pid: int) -> None:
        """Record `pid` as the process of `child`."""
        child.pid = pid
        self._by_pid[pid] = child

    def fork_refused(self, template: Child, serial: int, reason: str) -> None:
        """Report the death of a child that `template` was to fork. Raises ProtocolError if it was not.

        The template runs the application's code: it must not end other children.
        """
        child = self._by_serial.get(serial)
        if child is None:
            return
        if child.pid is not None or child.generation != template.generation or child.kind not in _FORKED:
            raise ProtocolError(f"a template says that it could not fork {child.kind.value} {serial}, which it has not")
        self.never_born(child, f"fork failed: {reason}")

    def never_born(self, child: Child, how: str) -> None:
        """Report the death of `child`: the kernel refused its process, or it died before its Hello message."""
        self._bury(child, Death(child, how, by_signal=False, cpu_seconds=0.0))

    def send(self, child: Child, message: Message, *sockets: int) -> None:
        """Send a message with descriptors, which the caller keeps."""
        if child.channel is not None:
            child.channel.send(message, sockets)

    def kill(self, child: Child) -> None:
        """Send SIGKILL. A child without a pid is killed at its Hello message, before it runs anything."""
        child.doomed = True
        self.signal(child, signal.SIGKILL)

    def dismiss(self, child: Child) -> None:
        """Close the channel of a child that ends by itself when it sees that. It is killed after UNHEARD_SECONDS."""
        child.doomed = True
        if child.channel is not None:
            child.channel.close()
        self._channel_ended(child, "closed")

    def signal(self, child: Child, number: int) -> None:
        """Send a signal. A pid in the table is not reaped yet, so it cannot belong to another process."""
        if child.pid is not None:
            os.kill(child.pid, number)

    def reap(self) -> None:
        """Reap every child that has died. Its pending messages are read first: the last one explains its death."""
        while True:
            try:
                dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | _OF_THIS_THREAD)
            except ChildProcessError:
                return
            if dead is None:
                return
            self._try(self._hear_out, dead.si_pid)
            _, status, usage = os.wait4(dead.si_pid, 0)
            child = self._by_pid.pop(dead.si_pid, None)
            if child is None:
                self.orphans_reaped += 1
                continue
            cpu_seconds = usage.ru_utime + usage.ru_stime
            how, by_signal = describe_status(status)
            if child.signal_asked_for:
                how = f"{how}, after {child.signal_asked_for}"
            death = Death(child, how, by_signal, cpu_seconds, os.waitstatus_to_exitcode(status))
            self._try(self._bury, child, death)

    def _try(self, handle: Callable[..., None], *arguments: object) -> None:
        """Call `handle`. If it fails, that is logged, and the other children are reaped all the same."""
        try:
            handle(*arguments)
        except Exception as error:
            self._loop.call_exception_handler({"message": "Exception in the reaping of a child", "exception": error})

    def _hear_out(self, pid: int) -> None:
        known = self._by_pid.get(pid)
        # An unknown pid may be a worker whose Hello message is still unread.
        speakers = [known] if known else [child for child in self.all() if child.pid is None]
        for child in speakers:
            if child.channel is not None:
                child.channel.read_pending()

    def _bury(self, child: Child, death: Death) -> None:
        if self._by_serial.pop(child.serial, None) is None:
            return
        if child.channel is not None:
            child.channel.close()
            child.channel = None
        try:
            self._on_death(death)
        finally:
            child.close_stacks()

    def _received(self, child: Child, received: Received) -> None:
        if isinstance(received.message, Hello):
            self._greeted(child, received)
        elif received.pid == child.pid and isinstance(received.message, StandsAside) and child.kind is Kind.TEMPLATE:
            child.copy = received.message.copy
        elif received.pid == child.pid or (child.copy is not None and received.pid == child.copy):
            child.is_heard = True
            self._on_message(child, received)
        else:
            self._drop(received)

    def _greeted(self, child: Child, received: Received) -> None:
        message = received.message
        known = child.pid is not None
        if known or received.pid is None or not isinstance(message, Hello) or message.serial != child.serial:
            self._drop(received)
            return
        if received.pid <= 0 or received.pid in self._by_pid:
            # The kernel says 0 of a process outside the master's namespace, and a signal to 0 is one to the master's
            # own group. One that is in the table already would be taken out of it.
            raise ProtocolError(f"the process {received.pid} says hello, which is no new child")
        self.born(child, received.pid)
        if child.doomed:
            self.signal(child, signal.SIGKILL)
        else:
            self._on_hello(child)

    def _drop(self, received: Received) -> None:
        self.messages_dropped += 1
        close_all(received.descriptors)

    def _channel_ended(self, child: Child, reason: str) -> None:
        child.channel = None
        if child.pid is None:
            self.never_born(child, f"died before it said hello ({reason})")
        else:
            # Usually the process is dead and about to be reaped.
            self._loop.call_later(UNHEARD_SECONDS, self._end_unheard, child, reason)

    def _end_unheard(self, child: Child, reason: str) -> None:
        if self._by_serial.get(child.serial) is child:
            child.signal_asked_for = child.signal_asked_for or f"its channel had ended ({reason})"
            self.signal(child, signal.SIGKILL)


def why_unheard(death: Death, python: str) -> str:
    """Why a template or a hooks process died before its first message.

    It had not begun to import the application, so the interpreter is the likely cause.
    """
    if death.child.pid is None:
        return death.how
    kind = death.child.kind.value
    if death.by_signal:
        return f"the {kind} was killed before it could say anything: {death.how}"
    return f"python: {python} cannot run a {kind} ({death.how}); is it a Python interpreter?"


def describe_status(status: int) -> tuple[str, bool]:
    """A wait status (wait(2)) in words, and whether a signal ended the process."""
    if not os.WIFSIGNALED(status):
        return f"exit status {os.waitstatus_to_exitcode(status)}", False
    number = os.WTERMSIG(status)
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return f"{name}{', core dumped' if os.WCOREDUMP(status) else ''}", True

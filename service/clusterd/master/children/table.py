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

from clusterd.config.model import AccessLog
from clusterd.linux.stacks import new_stacks_file
from clusterd.master.children.adopted import Adopted
from clusterd.master.children.child import Child, Death, Kind
from clusterd.metrics.kernel.procfs import identity
from clusterd.systemd.descriptor_store import DescriptorStore
from clusterd.systemd.descriptor_store import Kind as StoredKind
from clusterd.wire.channel import Channel, Received
from clusterd.wire.messages import LOST_STATUS, Hello, Message, ProtocolError, Reaped, StandsAside
from clusterd.wire.packets import close_all, socketpair

_OF_THIS_THREAD = 0x20000000
"""__WNOTHREAD, wait(2). Processes that other threads have started, such as a program's handlers, are left to them."""

UNKNOWN_STATUS = "its exit status is not known, because an earlier master has started it"
UNHEARD_SECONDS = 5.0
"""How long a process may live on after its channel has ended. The master cannot control it any more."""

_MOST_STATUS = 0xFFFF
"""A wait status has 16 bits."""

_FORKED = (Kind.SPARE, Kind.WORKER)
"""What a template forks."""


class Children:
    """Owns every process that the master started or adopted."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_message: Callable[[Child, Received], None],
        on_hello: Callable[[Child], None],
        on_death: Callable[[Death], None],
        store: DescriptorStore | None = None,
    ) -> None:
        self._loop = loop
        self._store = store
        self._adopted = Adopted(loop, self._adopted_ended)
        self._on_message = on_message
        self._on_hello = on_hello
        self._on_death = on_death
        self._by_serial: dict[int, Child] = {}
        self._by_pid: dict[int, Child] = {}
        self.orphans_reaped = 0
        """The number of orphans that were reaped: the master is a subreaper and inherits them."""
        self.has_adopted = False
        """Whether an earlier master has started some of them."""
        self.when_kept: Callable[[Child, Callable[[], None]], None] = lambda _, call: call()
        """Calls as soon as a process would outlive this master; at once where none does."""
        self.access_log: AccessLog | None = None
        """Which requests they log, once that was set."""
        self.messages_dropped = 0
        """The number of messages that were dropped because their sender was not the expected process."""

    @property
    def outlive_master(self) -> bool:
        """Whether systemd keeps the channels of these processes for a next master."""
        return self._store is not None

    def get(self, serial: int) -> Child | None:
        """The child with this serial, if it is alive or being created."""
        return self._by_serial.get(serial)

    def by_pid(self, pid: int) -> Child | None:
        """The child that is this process."""
        return self._by_pid.get(pid)

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
        self._keep(child, ours)
        return theirs

    def adopt(self, child: Child, pid: int, channel: socket.socket | None, drain_seconds: float) -> None:
        """Put a process in the table that an earlier program of the master, or an earlier master, has started.

        It may have ended meanwhile. Without a channel it sees that the master is gone, and has `drain_seconds` to end.
        """
        if channel is None:
            self._by_serial[child.serial] = child
            self._loop.call_later(drain_seconds + UNHEARD_SECONDS, self._end_unheard, child, "closed")
        else:
            self._listen(child, channel)
        found = identity(pid)
        child.is_own = found is not None and found.parent == os.getpid()
        child.pid = pid
        self._by_pid[pid] = child
        child.may_greet_again = child.kind is Kind.WORKER
        if not child.is_own:
            self.has_adopted = True
            self._adopted.watch(child)

    def _keep(self, child: Child, channel: socket.socket) -> None:
        if self._store is not None and child.kind is not Kind.HOOKS:
            self._store.add([channel.fileno()], StoredKind.CHANNEL)
            self._store.add([child.stacks] if child.stacks >= 0 else [], StoredKind.STACKS)

    def _no_longer_keep(self, child: Child) -> None:
        if self._store is not None:
            self._store.remove([child.channel_descriptor, child.stacks])
        child.channel_descriptor = -1  # The number may be that of another child's channel by the time this one is dead.

    def _listen(self, child: Child, channel: socket.socket) -> None:
        child.channel_descriptor = channel.fileno()
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
        found = identity(pid)
        child.started = 0 if found is None else found.started
        if not child.is_own:
            self._adopted.watch(child)

    def reaped(self, template: Child, told: Reaped) -> None:
        """A template has reaped a process that it has forked. Raises ProtocolError if it has not forked it."""
        child = self._by_serial.get(told.serial)
        if child is None or child.pid != told.pid:
            return  # An order was given again by another master, and the first process has ended.
        if not child.is_reaped_by_template or child.generation != template.generation:
            raise ProtocolError(f"a template has reaped {child.kind.value} {told.serial}, which is not its child")
        if self._adopted.lives(child):
            raise ProtocolError(f"a template has reaped {child.kind.value} {told.serial}, which lives")
        if told.status != LOST_STATUS and not is_end(told.status):
            raise ProtocolError(f"a template says that {child.kind.value} {told.serial} has ended with {told.status}")
        self._adopted.reported(child, None if told.status == LOST_STATUS else told.status, told.cpu_seconds)

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
            child.channel.shut_down()  # Systemd may have a duplicate for a moment more.
            child.channel.close()
        self._channel_ended(child, "closed")

    def signal(self, child: Child, number: int) -> None:
        """Send a signal. A pid in the table is not reaped yet, so it cannot belong to another process."""
        if child.pid is None:
            return
        if child.is_own:
            os.kill(child.pid, number)
        else:
            self._adopted.signal(child, number)

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

    def _adopted_ended(self, child: Child, status: int | None, cpu_seconds: float | None) -> None:
        """Handle the end of a process that is not a child of this one."""
        if self._by_serial.get(child.serial) is not child:
            return
        if child.channel is not None:
            self._try(child.channel.read_pending)
        if child.pid is not None and self._by_pid.get(child.pid) is child:
            del self._by_pid[child.pid]
        how, by_signal = (UNKNOWN_STATUS, False) if status is None else describe_status(status)
        if child.signal_asked_for:
            how = f"{how}, after {child.signal_asked_for}"
        code = None if status is None else os.waitstatus_to_exitcode(status)
        # What the metrics have shown counts at least: a counter does not go back.
        death = Death(child, how, by_signal, max(cpu_seconds or 0.0, child.cpu_seconds), code)
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
        self._no_longer_keep(child)
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
        elif self._is_copy(child, received.pid):
            child.copy = received.pid
            self._received(child, received)
        else:
            self._drop(received)

    @staticmethod
    def _is_copy(child: Child, pid: int | None) -> bool:
        """Whether a process is the copy of an adopted template, of which the earlier master may have heard alone."""
        if pid is None or child.is_own or child.copy is not None or child.kind is not Kind.TEMPLATE:
            return False
        found = identity(pid)
        return found is not None and found.parent == child.pid

    def _greeted(self, child: Child, received: Received) -> None:
        message = received.message
        known = child.pid is not None
        if child.may_greet_again and received.pid == child.pid:
            child.may_greet_again = False
            self._on_hello(child)
            return
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
        self._no_longer_keep(child)
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


def is_end(status: int) -> bool:
    """Return whether this is the wait status of a process that has ended (wait(2))."""
    return 0 <= status <= _MOST_STATUS and (os.WIFEXITED(status) or os.WIFSIGNALED(status))


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

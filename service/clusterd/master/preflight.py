"""`clusterd --check`: import the application and its hooks in a template and a hooks process, as a start does."""

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from clusterd.config.model import Config, Preload, to_json
from clusterd.linux.prctl import become_subreaper
from clusterd.linux.stacks import STACKS_SIGNAL, new_stacks_file, read_stacks
from clusterd.linux.wakeups import Wakeups
from clusterd.log import Level
from clusterd.master.children.orphans import end_orphans
from clusterd.master.children.processes import template_environment
from clusterd.master.children.spawn import Role, spawn
from clusterd.master.children.stacks import LOOK_EVERY_SECONDS, LOOKS
from clusterd.master.children.table import describe_status
from clusterd.metrics.scoreboard import Scoreboard
from clusterd.wire import messages
from clusterd.wire.packets import close_all, receive, send, socketpair

END_SECONDS = 5.0
"""How long to wait for the end of a process whose channel is closed. It runs the exit handlers of the application."""

GENERATION = 1


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a start would fail. For an error of the application, `reason` includes the traceback."""

    reason: str
    is_configuration: bool
    """The cause is the configuration file, or a file that it names (interpreter, certificate, key)."""


def check_application(config: Config) -> Failure | None:
    """Import the application and its hooks. Returns None if both succeed. Ends what they have started."""
    become_subreaper()
    try:
        failure = _try(Role.TEMPLATE, "application", _load, config)
        if failure is None and config.hooks is not None:
            return _try(Role.HOOKS, "hooks", _attach, config)
        return failure
    finally:
        end_orphans()


Order = Callable[[socket.socket, Config, int], None]
"""Sends over the channel what to import. The third argument is the descriptor of the file that receives stacks."""


def _try(role: Role, what: str, order: Order, config: Config) -> Failure | None:
    stacks = new_stacks_file("clusterd-stacks")
    ours, theirs = socketpair()
    try:
        with theirs:
            pid = spawn(role, config.python, theirs, template_environment(os.environ, config, GENERATION))
    except OSError as error:
        close_all([stacks, ours.detach()])
        return Failure(f"python: cannot run {config.python}: {error.strerror}", is_configuration=True)
    process = _Process(pid, ours, stacks)
    with ours:
        try:
            ours.settimeout(config.rollout.boot_timeout)
            # The process may have ended already. Its last message, if it sent one, is read below.
            with contextlib.suppress(ConnectionError):
                order(ours, config, stacks)
            return _before_the_import(process.answer(), config) or _import(process, what, config)
        finally:
            process.end()
            os.close(stacks)


def _import(process: "_Process", what: str, config: Config) -> Failure | None:
    try:
        answer = process.answer()
        how = process.wait_for_end()
        match answer:
            case None:
                return Failure(f"the process died while it imported the {what} ({how})", is_configuration=False)
            case messages.LoadFailed(reason, traceback, _):
                wrong = f"the {what} could not be loaded: {reason}\n{traceback}".rstrip()
                return Failure(wrong, is_configuration=False)
    except TimeoutError:
        limit = f"rollout.boot_timeout ({config.rollout.boot_timeout:g} s)"
        text = f"the {what}: not imported within {limit}\n{process.stacks()}".rstrip()
        return Failure(text, is_configuration=False)
    return None


@dataclass(slots=True)
class _Process:
    """A template or hooks process that imports."""

    pid: int
    channel: socket.socket
    stacks_file: int
    status: int | None = None

    def answer(self) -> messages.Message | None:
        """The next message of the process; None if it has ended. Raises TimeoutError."""
        packet = receive(self.channel)
        return None if packet is None else messages.decode(packet.data)

    def stacks(self) -> str:
        """The stacks of the process. It handles the signal from before the import."""
        os.kill(self.pid, STACKS_SIGNAL)
        before = ""
        for _ in range(LOOKS):
            time.sleep(LOOK_EVERY_SECONDS)
            written = read_stacks(self.stacks_file, 0)
            if written and written == before:
                break  # The process writes bit by bit: two equal reads mean that it has finished.
            before = written
        return before

    def wait_for_end(self) -> str:
        """Close the channel, and let the process run its exit handlers. Returns how it ended, in words."""
        self.channel.shutdown(socket.SHUT_RDWR)
        descriptor = os.pidfd_open(self.pid)
        select.select([descriptor], [], [], END_SECONDS)
        os.close(descriptor)
        return describe_status(self.end())[0]

    def end(self) -> int:
        """Kill and reap the process, once. Returns the wait status."""
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.status = os.waitpid(self.pid, 0)[1]
        return self.status


def _load(channel: socket.socket, config: Config, stacks: int) -> None:
    scoreboard = Scoreboard.create()
    wakeups = Wakeups.create()
    order = messages.Load(
        generation=GENERATION,
        config=to_json(config),
        preload=True,
        refuse_unforkable=config.preload is Preload.AUTO,
        listeners=[],
        log_level=int(Level.WARNING),
    )
    try:
        send(channel, messages.encode(order), [scoreboard.descriptor, stacks, *wakeups.descriptors])
    finally:
        scoreboard.close()
        close_all(wakeups.descriptors)


def _attach(channel: socket.socket, config: Config, stacks: int) -> None:
    send(channel, messages.encode(messages.Attach(GENERATION, to_json(config), int(Level.WARNING))), [stacks])


def _before_the_import(answer: messages.Message | None, config: Config) -> Failure | None:
    match answer:
        case None:
            wrong = f"python: {config.python} cannot run a template; is it a Python interpreter?"
            return Failure(wrong, is_configuration=True)
        case messages.LoadFailed(reason, traceback, _):
            return Failure(f"{reason}\n{traceback}".rstrip(), is_configuration=True)
    return None

"""`clusterd --check`: import the application in a template, and its hooks, as a start would, and nothing more."""

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass

from clusterd.config.model import Config, Preload, to_json
from clusterd.linux.bells import Bells
from clusterd.linux.stacks import new_stacks_file
from clusterd.log import Level
from clusterd.master.processes import template_environment
from clusterd.master.spawn import Role, spawn
from clusterd.metrics.scoreboard import Scoreboard
from clusterd.wire import messages
from clusterd.wire.packets import close_all, receive, send, socketpair


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a start would fail; of an application with the traceback."""

    reason: str
    is_configuration: bool
    """It is the file's, or that of what it names (interpreter, certificate, key), and not the application's."""


def check_application(config: Config) -> Failure | None:
    """None when the application and its hooks import."""
    failure = _try(Role.TEMPLATE, "application", _load, config)
    if failure is None and config.hooks is not None:
        return _try(Role.HOOKS, "hooks", _attach, config)
    return failure


def _try(role: Role, what: str, order: Callable[[socket.socket, Config], None], config: Config) -> Failure | None:
    ours, theirs = socketpair()
    with ours:
        with theirs:
            try:
                pid = spawn(role, config.python, theirs, template_environment(os.environ, config))
            except OSError as error:
                return Failure(f"python: can not run {config.python}: {error.strerror}", is_configuration=True)
        try:
            ours.settimeout(config.rollout.boot_timeout)
            with contextlib.suppress(ConnectionError):  # it may be gone by now, and has said why, or nothing
                order(ours, config)
            return _before_the_import(_answer(ours), config) or _after_the_import(_answer(ours), what)
        except TimeoutError:
            limit = f"rollout.boot_timeout ({config.rollout.boot_timeout:g} s)"
            return Failure(f"the {what}: not imported within {limit}", is_configuration=False)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _load(channel: socket.socket, config: Config) -> None:
    scoreboard = Scoreboard.create()
    stacks = new_stacks_file("clusterd-stacks")
    bells = Bells.create()
    order = messages.Load(
        generation=1,
        config=to_json(config),
        preload=True,
        refuse_unforkable=config.preload is Preload.AUTO,
        listeners=[],
        log_level=int(Level.WARNING),
    )
    try:
        send(channel, messages.encode(order), [scoreboard.descriptor, stacks, *bells.descriptors])
    finally:
        scoreboard.close()
        close_all([stacks, *bells.descriptors])


def _attach(channel: socket.socket, config: Config) -> None:
    stacks = new_stacks_file("clusterd-stacks")
    try:
        send(channel, messages.encode(messages.Attach(1, to_json(config), int(Level.WARNING))), [stacks])
    finally:
        close_all([stacks])


def _before_the_import(answer: messages.Message | None, config: Config) -> Failure | None:
    match answer:
        case None:
            wrong = f"python: {config.python} can not run a template; is it a Python interpreter?"
            return Failure(wrong, is_configuration=True)
        case messages.LoadFailed(reason, traceback):
            return Failure(f"{reason}\n{traceback}".rstrip(), is_configuration=True)
    return None


def _after_the_import(answer: messages.Message | None, what: str) -> Failure | None:
    match answer:
        case None:
            return Failure(f"the process died while it imported the {what}", is_configuration=False)
        case messages.LoadFailed(reason, traceback):
            wrong = f"the {what} could not be loaded: {reason}\n{traceback}".rstrip()
            return Failure(wrong, is_configuration=False)
    return None


def _answer(channel: socket.socket) -> messages.Message | None:
    packet = receive(channel)
    return None if packet is None else messages.decode(packet.data)

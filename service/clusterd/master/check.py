"""`clusterd --check`: import the application in a template, as a start would, and nothing more."""

import contextlib
import os
import signal
import socket
from dataclasses import dataclass

from clusterd.config.model import Config, Preload, to_json
from clusterd.linux.bells import Bells
from clusterd.linux.stacks import new_stacks_file
from clusterd.log import Level
from clusterd.master.processes import template_environment
from clusterd.master.spawn import spawn_template
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
    """None when the application imports."""
    ours, theirs = socketpair()
    with ours:
        with theirs:
            try:
                pid = spawn_template(config.python, theirs, template_environment(os.environ, config))
            except OSError as error:
                return Failure(f"python: can not run {config.python}: {error.strerror}", is_configuration=True)
        try:
            return _ask(ours, config)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _ask(channel: socket.socket, config: Config) -> Failure | None:
    scoreboard = Scoreboard.create()
    stacks = new_stacks_file("clusterd-stacks")
    order = messages.Load(
        generation=1,
        config=to_json(config),
        preload=True,
        refuse_unforkable=config.preload is Preload.AUTO,
        listeners=[],
        log_level=int(Level.WARNING),
    )
    bells = Bells.create()
    channel.settimeout(config.rollout.boot_timeout)
    try:
        with contextlib.suppress(ConnectionError):  # it may be gone by now, and has said why, or nothing
            send(channel, messages.encode(order), [scoreboard.descriptor, stacks, *bells.descriptors])
        return _before_the_import(_answer(channel), config) or _after_the_import(_answer(channel))
    except TimeoutError:
        limit = f"rollout.boot_timeout ({config.rollout.boot_timeout:g} s)"
        return Failure(f"not imported within {limit}", is_configuration=False)
    finally:
        scoreboard.close()
        close_all([stacks, *bells.descriptors])


def _before_the_import(answer: messages.Message | None, config: Config) -> Failure | None:
    match answer:
        case None:
            wrong = f"python: {config.python} can not run a template; is it a Python interpreter?"
            return Failure(wrong, is_configuration=True)
        case messages.LoadFailed(reason, traceback):
            return Failure(f"{reason}\n{traceback}".rstrip(), is_configuration=True)
    return None


def _after_the_import(answer: messages.Message | None) -> Failure | None:
    match answer:
        case None:
            return Failure("the template died while it imported the application", is_configuration=False)
        case messages.LoadFailed(reason, traceback):
            wrong = f"the application could not be loaded: {reason}\n{traceback}".rstrip()
            return Failure(wrong, is_configuration=False)
    return None


def _answer(channel: socket.socket) -> messages.Message | None:
    packet = receive(channel)
    return None if packet is None else messages.decode(packet.data)

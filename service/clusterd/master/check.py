"""`clusterd --check`: import the application in a template, and its hooks, as a start would, and nothing more."""

import os
import signal
import socket
from collections.abc import Callable

from clusterd.config.model import Config, Preload, to_json
from clusterd.linux.bells import Bells
from clusterd.linux.stacks import new_stacks_file
from clusterd.log import Level
from clusterd.master.processes import template_environment
from clusterd.master.spawn import Role, spawn
from clusterd.metrics.scoreboard import Scoreboard
from clusterd.wire import messages
from clusterd.wire.packets import close_all, receive, send, socketpair


def check_application(config: Config) -> str | None:
    """None when the application and its hooks import; else why not, with the traceback."""
    wrong = _try(Role.TEMPLATE, "application", _load, config)
    if wrong is None and config.hooks is not None:
        return _try(Role.HOOKS, "hooks", _attach, config)
    return wrong


def _try(role: Role, what: str, order: Callable[[socket.socket, Config], None], config: Config) -> str | None:
    ours, theirs = socketpair()
    with ours:
        with theirs:
            try:
                pid = spawn(role, config.python, theirs, template_environment(os.environ, config))
            except OSError as error:
                return f"python: can not run {config.python}: {error.strerror}"
        try:
            order(ours, config)
            return _hear(ours, config, what)
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


def _hear(channel: socket.socket, config: Config, what: str) -> str | None:
    channel.settimeout(config.rollout.boot_timeout)
    try:
        answer = _answer(channel)
        if isinstance(answer, messages.Importing):
            answer = _answer(channel)
        elif answer is None:
            return f"python: {config.python} can not run a template; is it a Python interpreter?"
    except TimeoutError:
        return f"the {what}: not imported within rollout.boot_timeout ({config.rollout.boot_timeout:g} s)"
    if answer is None:
        return f"the process died while it imported the {what}"
    if isinstance(answer, messages.LoadFailed):
        return f"the {what} could not be loaded: {answer.reason}\n{answer.traceback}".rstrip()
    return None


def _answer(channel: socket.socket) -> messages.Message | None:
    packet = receive(channel)
    return None if packet is None else messages.decode(packet.data)

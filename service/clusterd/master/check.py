"""`clusterd --check`: import the application in a template, as a start would, and nothing more."""

import os
import signal
import socket

from clusterd.config.model import Config, Preload, to_json
from clusterd.linux.bells import Bells
from clusterd.linux.stacks import new_stacks_file
from clusterd.log import Level
from clusterd.master.processes import template_environment
from clusterd.master.spawn import spawn_template
from clusterd.metrics.scoreboard import Scoreboard
from clusterd.wire import messages
from clusterd.wire.packets import close_all, receive, send, socketpair


def check_application(config: Config) -> str | None:
    """None when the application imports; else why not, with the traceback."""
    ours, theirs = socketpair()
    with ours:
        with theirs:
            try:
                pid = spawn_template(config.python, theirs, template_environment(os.environ, config))
            except OSError as error:
                return f"python: can not run {config.python}: {error.strerror}"
        try:
            return _ask(ours, config)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _ask(channel: socket.socket, config: Config) -> str | None:
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
    send(channel, messages.encode(order), [scoreboard.descriptor, stacks, *bells.descriptors])
    channel.settimeout(config.rollout.boot_timeout)
    try:
        answer = _answer(channel)
        if isinstance(answer, messages.Importing):
            answer = _answer(channel)
        elif answer is None:
            return f"python: {config.python} can not run a template; is it a Python interpreter?"
    except TimeoutError:
        return f"not imported within rollout.boot_timeout ({config.rollout.boot_timeout:g} s)"
    finally:
        scoreboard.close()
        close_all([stacks, *bells.descriptors])
    if answer is None:
        return "the template died while it imported the application"
    if isinstance(answer, messages.LoadFailed):
        return f"the application could not be loaded: {answer.reason}\n{answer.traceback}".rstrip()
    return None


def _answer(channel: socket.socket) -> messages.Message | None:
    packet = receive(channel)
    return None if packet is None else messages.decode(packet.data)

"""Whose messages the process table takes for those of a child."""

import asyncio
import os

import pytest

from clusterd.master.children.child import Child, Death, Kind
from clusterd.master.children.table import Children
from clusterd.wire.channel import Received
from clusterd.wire.messages import ForkFailed, Importing, Message, StandsAside, encode
from clusterd.wire.packets import send

pytestmark = pytest.mark.engine_independent


def said_by_another_process(first: Message | None = None) -> tuple[list[Message], int]:
    """What is taken of a template's messages if a process that it has forked says that a fork has failed.

    `first` is what the template itself says before. Returns also how many messages were dropped.
    """
    taken: list[Message] = []

    def take(_: Child, received: Received) -> None:
        taken.append(received.message)

    def forget(_: Child | Death) -> None:
        pass

    loop = asyncio.new_event_loop()
    children = Children(loop, take, forget, forget)
    child = Child(1, Kind.TEMPLATE, generation=1)
    with children.enter(child) as theirs:
        children.born(child, os.getpid())
        reader, writer = os.pipe()
        copy = os.fork()
        if copy == 0:
            os.read(reader, 1)
            send(theirs, encode(ForkFailed(7, "too many processes")))
            os._exit(0)
        if isinstance(first, StandsAside):
            first = StandsAside(copy)
        if first is not None:
            send(theirs, encode(first))
        os.write(writer, b"x")
        os.waitpid(copy, 0)
        assert child.channel is not None
        child.channel.read_pending()
        child.channel.close()
    for descriptor in (reader, writer):
        os.close(descriptor)
    child.close_stacks()
    loop.close()
    return taken, children.messages_dropped


def test_a_process_that_the_application_has_forked_speaks_for_nobody() -> None:
    assert said_by_another_process(Importing(0.0)) == ([Importing(0.0)], 1)


def test_the_copy_of_a_template_that_stands_aside_speaks_for_it() -> None:
    """What a refused fork had failed of was lost: "died before it said hello" was all that the log said."""
    assert said_by_another_process(StandsAside(0)) == ([ForkFailed(7, "too many processes")], 0)


def test_every_child_is_reaped_although_the_death_of_another_is_not_handled() -> None:
    met: list[int] = []
    told: list[Exception] = []

    def fail(death: Death) -> None:
        met.append(death.child.serial)
        raise LookupError(death.child.serial)

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    children = Children(loop, lambda *_: None, lambda _: None, fail)
    for serial in (1, 2):
        child = Child(serial, Kind.HOOKS, generation=1)
        with children.enter(child):
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            children.born(child, pid)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    children.reap()
    loop.close()
    assert sorted(met) == [1, 2]
    assert len(told) == 2
    assert not children.all()

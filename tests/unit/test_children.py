"""Whose messages the process table takes for those of a child, and what of it systemd keeps."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from clusterd.log import Logger
from clusterd.master.children.child import Child, Death, Kind
from clusterd.master.children.table import Children
from clusterd.systemd.descriptor_store import DescriptorStore
from clusterd.systemd.notify import Notifier
from clusterd.wire.channel import Received
from clusterd.wire.messages import ForkFailed, Importing, Message, ProtocolError, Reaped, StandsAside, encode
from clusterd.wire.packets import send
from tests.unit.test_handling import Lines

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


def test_the_end_of_a_process_removes_no_other_from_the_store_that_has_its_descriptors_number() -> None:
    """The channel of a dead process ends before it is reaped. One that is started meanwhile gets the number."""
    loop = asyncio.new_event_loop()
    store = DescriptorStore(Notifier(None), loop, Logger(Lines()))
    children = Children(loop, lambda *_: None, lambda _: None, lambda _: None, store)
    dead, next_one = (Child(serial, Kind.SPARE, generation=1) for serial in (1, 2))
    pid = os.fork() or os._exit(0)
    with children.enter(dead):
        children.born(dead, pid)
    number = dead.channel_descriptor
    assert dead.channel is not None
    dead.channel.read_pending()
    loop.run_until_complete(asyncio.sleep(0))
    with children.enter(next_one):
        assert next_one.channel_descriptor == number
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        children.reap()
        assert store.names[number].startswith("c-")
    children.never_born(next_one, "the test is over")
    loop.close()


@contextmanager
def forked_by_an_adopted_template(*, ends_by: int) -> Iterator[tuple[Children, Child, Child, list[Death]]]:
    """A worker of a template that reaps it, and that has ended by this signal, or lives if that is 0."""
    loop = asyncio.new_event_loop()
    deaths: list[Death] = []
    children = Children(loop, lambda *_: None, lambda _: None, deaths.append)
    template, worker = Child(1, Kind.TEMPLATE, 1), Child(2, Kind.WORKER, 1, slot=1)
    worker.is_own, worker.is_reaped_by_template = False, True
    pid = os.fork()
    if pid == 0:
        signal.pause()
    try:
        with children.enter(worker):
            children.born(worker, pid)
            if ends_by:
                os.kill(pid, ends_by)
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            yield children, template, worker, deaths
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        if worker in children.all():
            children.never_born(worker, "the test is over")
        loop.close()


def test_a_template_reports_how_its_worker_has_ended() -> None:
    with forked_by_an_adopted_template(ends_by=signal.SIGTERM) as (children, template, worker, deaths):
        assert worker.pid is not None
        children.reaped(template, Reaped(2, signal.SIGTERM, 0.5, worker.pid))
        assert [(each.how, each.cpu_seconds) for each in deaths] == [("SIGTERM", 0.5)]


def test_a_template_cannot_say_that_a_worker_has_ended_that_lives() -> None:
    with forked_by_an_adopted_template(ends_by=0) as (children, template, worker, deaths):
        assert worker.pid is not None
        with pytest.raises(ProtocolError, match="has reaped worker 2, which lives"):
            children.reaped(template, Reaped(2, 0, 0.0, worker.pid))
        assert deaths == []


@pytest.mark.parametrize("status", [0x137F, 1 << 16, 1 << 40, -2])
def test_a_status_that_no_process_ends_with_is_refused(status: int) -> None:
    with forked_by_an_adopted_template(ends_by=signal.SIGKILL) as (children, template, worker, deaths):
        assert worker.pid is not None
        with pytest.raises(ProtocolError, match=f"worker 2 has ended with {status}"):
            children.reaped(template, Reaped(2, status, 0.0, worker.pid))
        assert deaths == []

"""What a child says that it may not say, or without end: it reaches no other child, and does not stop the master."""

import asyncio
import json
import os
import socket
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from clusterd.config.model import Debug, HealthCheck, TcpAddress
from clusterd.log import Logger
from clusterd.master.children.child import Child, Death, Kind
from clusterd.master.children.table import Children
from clusterd.master.diagnosis.debuggers import Debuggers, NoDebugger
from clusterd.master.diagnosis.stacks import StackReader
from clusterd.master.health.health_check import check_worker
from clusterd.wire import messages
from clusterd.wire.channel import Channel, Received
from clusterd.wire.conversation import MOST_UNSENT, Conversation, Incoming
from clusterd.wire.in_hand import EMPTY
from clusterd.wire.messages import AppMessage, ProtocolError, encode
from clusterd.wire.packets import is_in_memory, receive, send, socketpair
from clusterd.wire.passing import Offer
from clusterd.wire.values import checked
from clusterd.worker.draining.handover import Receiver
from tests.support.talking import on_a_loop, until

pytestmark = pytest.mark.engine_independent


# ---- packets


@pytest.mark.parametrize(("data", "count"), [(b"", 1), (b"x", 65), (b"x", 253)])
def test_descriptors_that_nothing_needs_are_closed(data: bytes, count: int) -> None:
    """An empty packet was taken for the end, and its descriptors were never closed."""
    ours, theirs = socketpair()
    reader, writer = os.pipe()
    with ours, theirs:
        theirs.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [writer] * count))])
        os.close(writer)
        with pytest.raises(ProtocolError):
            receive(ours)
        assert os.read(reader, 1) == b""  # No other end is open any more.
    os.close(reader)


def test_what_is_read_before_a_death_is_what_had_arrived() -> None:
    """A process that the dead one has forked may send without end: the master would have read it for ever."""
    ours, theirs = socketpair()
    loop = asyncio.new_event_loop()
    heard = []

    def hear(received: Received) -> None:
        heard.append(received)
        send(theirs, encode(messages.Ready()))

    channel = Channel(ours, loop, hear, lambda _: None)
    with theirs:
        for _ in range(3):
            send(theirs, encode(messages.Ready()))
        channel.read_pending()
        channel.close()
    loop.close()
    assert len(heard) == 3


def test_a_turn_reads_no_more_than_a_part_of_what_is_large() -> None:
    ours, theirs = socketpair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
    loop = asyncio.new_event_loop()
    turns: list[int] = [0]

    def hear(_: Received) -> None:
        turns[-1] += 1

    channel = Channel(ours, loop, hear, lambda _: None)
    packet = encode(AppMessage("x" * messages.VALUE_BYTES))
    theirs.setblocking(False)
    sent = 0
    try:
        while sent < 20:
            send(theirs, packet)
            sent += 1
    except BlockingIOError:
        pass
    while sum(turns) < sent:
        loop.call_soon(loop.stop)
        loop.run_forever()
        turns.append(0)
    channel.close()
    theirs.close()
    loop.close()
    assert max(turns) <= 6 < sent


@pytest.mark.parametrize(
    "fields",
    [
        b'"type": "Importing", "certificate_ends_at": NaN',
        b'"type": "Importing", "certificate_ends_at": 1e999',
        b'"type": "Importing", "certificate_ends_at": 1' + b"0" * 400,
        b'"type": "Ack", "count": true',
        b'"type": "Ack", "count": 9223372036854775808',
    ],
)
def test_numbers_that_are_none_are_refused(fields: bytes) -> None:
    with pytest.raises(ProtocolError) as refused:
        messages.decode(b'{"v": 1, ' + fields + b"}")
    assert len(str(refused.value)) < 300


def test_a_channel_ends_for_a_message_that_its_reader_refuses() -> None:
    ours, theirs = socketpair()
    loop = asyncio.new_event_loop()
    ends: list[str] = []

    def refuse(_: Received) -> None:
        raise ProtocolError("not now")

    channel = Channel(ours, loop, refuse, ends.append)
    with theirs:
        send(theirs, encode(messages.Ready()))
        channel.read_pending()
        assert receive(theirs) is None
    loop.close()
    assert ends == ["not now"]


OFFER: dict[str, object] = {
    "residual": "",
    "peer": None,
    "local": None,
    "scheme": "http",
    "requests": 1,
    "awaits_header": False,
}


@pytest.mark.parametrize(
    ("data", "passed"),
    [
        (b"\xff", 0),
        (b"[]", 1),
        (Offer(1, {}).encode(), 1),
        (Offer(1, OFFER).encode(), 0),
        (Offer(1, OFFER).encode(), 1),
        (Offer(1, OFFER).encode(), 2),
        (Offer(1, {**OFFER, "peer": ["::1", "x"]}).encode(), 1),
    ],
)
def test_what_is_no_connection_of_another_worker_ends_the_handover(data: bytes, passed: int) -> None:
    """Each such packet was tried again and again, and logged with its traceback."""
    ours, theirs = socketpair()
    loop = asyncio.new_event_loop()
    ends: list[object] = []
    adopted: list[object] = []
    reader, writer = os.pipe()
    receiver = Receiver(ours, loop, lambda *given: adopted.append(given), ends.append)
    with theirs:
        send(theirs, data, [writer] * passed)
        os.close(writer)
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert receive(theirs) is None
    assert (ends, adopted, os.read(reader, 1)) == ([receiver], [], b"")
    os.close(reader)
    loop.close()


# ---- the process table


@contextmanager
def table() -> Iterator[tuple[Children, list[Death]]]:
    loop = asyncio.new_event_loop()
    deaths: list[Death] = []
    children = Children(loop, lambda _, __: None, lambda _: None, deaths.append)
    yield children, deaths
    for child in children.all():
        children.never_born(child, "the end of the test")
    loop.close()


def entered(children: Children, kind: Kind, serial: int, pid: int | None, generation: int = 1) -> Child:
    child = Child(serial, kind, generation)
    children.enter(child).close()
    if pid is not None:
        children.born(child, pid)
    return child


@pytest.mark.parametrize(
    ("kind", "pid", "generation"),
    [(Kind.WORKER, 5, 1), (Kind.WORKER, None, 2), (Kind.HOOKS, None, 1), (Kind.TEMPLATE, None, 1)],
)
def test_no_template_ends_a_child_that_it_was_not_to_fork(kind: Kind, pid: int | None, generation: int) -> None:
    """The living worker was buried: its channel was closed, its row went to another one."""
    with table() as (children, deaths):
        template = entered(children, Kind.TEMPLATE, 1, 4)
        other = entered(children, kind, 2, pid, generation)
        with pytest.raises(ProtocolError):
            children.fork_refused(template, 2, "no")
        children.fork_refused(template, 3, "no such child")
        assert children.get(2) is other
        assert not deaths


@pytest.mark.parametrize("kind", [Kind.TEMPLATE, Kind.SPARE])
def test_a_template_says_that_a_fork_was_refused(kind: Kind) -> None:
    with table() as (children, deaths):
        template = entered(children, kind, 1, 4)
        entered(children, Kind.WORKER, 2, None)
        children.fork_refused(template, 2, "no memory")
        assert [death.how for death in deaths] == ["fork failed: no memory"]


def test_no_process_is_two_children() -> None:
    with table() as (children, deaths):
        template = entered(children, Kind.TEMPLATE, 1, os.getpid())
        worker = Child(2, Kind.WORKER, 1)
        with children.enter(worker) as theirs:
            send(theirs, encode(messages.Hello(2, 1)))
            assert worker.channel is not None
            worker.channel.read_pending()
        assert [death.child for death in deaths] == [worker]
        assert children.get(1) is template
        assert children.pids == {os.getpid()}


# ---- answers


def test_a_worker_answers_no_question_to_another_one() -> None:
    async def scenario() -> list[str]:
        told: list[str] = []
        sent: list[messages.TellStacks] = []
        children = SimpleNamespace(send=lambda _, message: sent.append(message), signal=lambda *_: None)
        reader = StackReader(
            cast(Any, children), asyncio.get_running_loop(), cast(Logger, SimpleNamespace()), lambda _: EMPTY
        )
        asked, other = (Child(serial, Kind.WORKER, generation=1, slot=serial, pid=serial) for serial in (1, 2))
        reader.tell(asked, told.append)
        reader.told(other, sent[0].number, "of another one")
        reader.told(asked, sent[0].number, "of the one")
        return told

    assert asyncio.run(scenario()) == ["of the one"]


def test_a_debugger_that_nobody_asked_for_does_not_spare_a_worker() -> None:
    happened: list[object] = []
    configurations = SimpleNamespace(of=lambda _: SimpleNamespace(debug=Debug(5000, "127.0.0.1")))
    loop = asyncio.new_event_loop()
    debuggers = Debuggers(
        cast(Any, SimpleNamespace(send=lambda *_: None)),
        cast(Any, configurations),
        loop,
        cast(Logger, SimpleNamespace(warning=lambda *_, **__: None)),
        happened.append,
    )
    worker = Child(7, Kind.WORKER, generation=1, slot=3, pid=42)
    debuggers.told(worker, "")
    assert (worker.debugger, happened) == (None, [])
    answers: list[TcpAddress | NoDebugger] = []
    debuggers.start(worker, answers.append)
    debuggers.told(worker, "")
    assert answers == [TcpAddress("127.0.0.1", 5003)]
    loop.close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"\r\n", "no status line"),
        (b"HTTP/1.1\r\n\r\n", "no status line"),
        (b"HTTP/1.1 99999 X\r\n\r\n", "no status line"),
        (b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n" + b"-3\r\n" * 4000, "answered 500"),
        (b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffff\r\nx", "answered 500"),
    ],
)
def test_whatever_answers_a_health_check_it_has_a_result(answer: bytes, words: str) -> None:
    """The first one left the worker to wait for its boot_timeout; negative chunks took the master's time."""

    kept: list[socket.socket] = []

    def answers(_: Child, __: object, descriptor: int) -> None:
        kept.append(socket.socket(fileno=os.dup(descriptor)))
        kept[0].sendall(answer)
        kept[0].shutdown(socket.SHUT_WR)

    check = HealthCheck("/up", "127.0.0.1", "2xx", 30.0)
    worker = Child(7, Kind.WORKER, generation=1, slot=3, pid=42)
    wrong = asyncio.run(check_worker(cast(Any, SimpleNamespace(send=answers)), worker, check))
    kept[0].close()
    assert wrong is not None
    assert words in wrong


# ---- values


@pytest.mark.parametrize(
    "value",
    [float("nan"), {"a": [float("-inf")]}, "\u00e9" * 25_000, json.loads("[" * 150 + "]" * 150)],
)
def test_a_value_that_could_not_be_passed_on_is_refused(value: Any) -> None:
    """The hooks waited for ever for the outcome of a message that could not be sent to them."""
    with pytest.raises(ProtocolError):
        checked(AppMessage(value))
    assert checked(AppMessage([1.5, "x"])) == AppMessage([1.5, "x"])


@on_a_loop
async def test_who_reads_no_replies_is_not_read() -> None:
    """The replies would have filled the master's memory."""
    ours, theirs = socketpair()
    loop = asyncio.get_running_loop()
    conversation = Conversation()
    heard = 0

    def answer(incoming: Incoming) -> None:
        nonlocal heard
        heard += 1
        incoming.reply("x" * 1000)
        incoming.taken()

    def take(received: Received) -> None:
        assert isinstance(received.message, AppMessage)
        conversation.received(received.message)

    channel = Channel(ours, loop, take, lambda _: conversation.end())
    conversation.attach(channel, loop, answer)
    theirs.setblocking(False)
    with theirs:
        sent = refused = 0
        while refused < 50:
            try:
                send(theirs, encode(AppMessage("?", request=sent + 1)))
                sent += 1
                refused = 0
            except BlockingIOError:
                refused += 1
            await asyncio.sleep(0)
        assert MOST_UNSENT < conversation.unsent < MOST_UNSENT + 500
        assert heard < sent
        replies = 0

        def read() -> bool:
            nonlocal replies
            try:
                while packet := receive(theirs):
                    replies += isinstance(messages.decode(packet.data), AppMessage)
            except BlockingIOError:
                pass
            return replies == sent

        await until(read)  # Whoever reads again is read again, and has lost nothing.
        channel.close()


def test_only_a_file_in_memory_is_one() -> None:
    reader, writer = os.pipe()
    memory = os.memfd_create("x")
    opened = os.open(__file__, os.O_RDONLY)
    found = [is_in_memory(each) for each in (memory, reader, opened)]
    for each in (reader, writer, memory, opened):
        os.close(each)
    assert found == [True, False, False]

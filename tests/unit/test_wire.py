"""Messages, packets and the control protocol: what is sent arrives, and nothing else is taken for a message."""

import asyncio
import contextlib
import os
import re
import resource
import signal
import socket
from dataclasses import fields
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.wire import control, messages
from clusterd.wire.channel import PACKETS_PER_TURN, Channel, Received
from clusterd.wire.packets import receive, send, socketpair
from clusterd.wire.passing import Answer, Decline, Offer

VALUES: dict[Any, Any] = {int: 3, str: "text", bool: True, float: 1.5}


def sample(kind: type[messages.Message]) -> messages.Message:
    def value(annotation: Any) -> Any:
        return VALUES.get(annotation, [] if "list" in str(annotation) else {})

    return kind(**{field.name: value(field.type) for field in fields(kind)})


@pytest.mark.parametrize("kind", messages.Message.__subclasses__())
def test_every_message_survives_the_wire(kind: type[messages.Message]) -> None:
    assert messages.decode(messages.encode(sample(kind))) == sample(kind)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"[]",
        b"{",
        b"[" * 100_000,
        b'{"v": 1}',
        b'{"v": 1, "type": []}',
        b'{"v": 1, "type": "Message"}',
        b'{"v": 2, "type": "Ready"}',
        b'{"v": 1, "type": "Ready", "more": 1}',
        b'{"v": 1, "type": "Hello", "serial": 1}',
    ],
)
def test_what_is_no_message_is_refused(packet: bytes) -> None:
    with pytest.raises(messages.ProtocolError):
        messages.decode(packet)


def test_a_flood_leaves_others_their_turn() -> None:
    """A channel reads so many packets and lets the loop go on; what is left is there at its next turn."""
    ours, theirs = socketpair()
    heard: list[Received] = []
    turns: list[int] = []
    loop = asyncio.new_event_loop()
    channel = Channel(ours, loop, heard.append, lambda _: loop.stop())

    def turn() -> None:
        turns.append(len(heard))
        loop.call_soon(turn)

    theirs.setblocking(False)
    sent = 0
    with theirs, contextlib.suppress(BlockingIOError):
        while True:
            send(theirs, messages.encode(messages.Ready()))
            sent += 1
    loop.call_soon(turn)
    loop.run_forever()
    channel.close()
    loop.close()
    assert len(heard) == sent > PACKETS_PER_TURN
    assert max(after - before for before, after in pairwise(turns)) <= PACKETS_PER_TURN


@given(st.binary())
def test_any_bytes_are_a_message_or_refused(packet: bytes) -> None:
    try:
        messages.decode(packet)
    except messages.ProtocolError:
        pass


@pytest.mark.parametrize(
    "said",
    [
        Offer(1, {"a": None}),
        Offer(2, {}, anyway=False),
        Offer(3, {}, given=True),
        Answer(1),
        *map(Answer, [2, 3], Decline),
    ],
)
def test_what_is_said_of_a_passing_connection_survives_the_wire(said: Offer | Answer) -> None:
    assert type(said).decode(said.encode()) == said


@pytest.mark.parametrize(
    "packet", [b"", b"[]", b"[" * 100_000, b'{"number": 1}', b'{"number": 1, "declined": "never"}']
)
def test_nothing_else_is_taken_for_it(packet: bytes) -> None:
    for kind in (Offer, Answer):
        with pytest.raises(messages.ProtocolError):
            kind.decode(packet)


def test_a_message_that_fits_no_packet_is_refused() -> None:
    with pytest.raises(messages.ProtocolError, match="at most"):
        messages.encode(messages.LoadFailed("x" * messages.PACKET_BYTES, "", permanent=True))


def test_a_packet_carries_descriptors_and_the_senders_pid() -> None:
    ours, theirs = socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        read_end, write_end = os.pipe()
        send(theirs, b"data", [read_end])
        os.close(read_end)
        packet = receive(ours)
        assert packet is not None
        assert (packet.data, packet.pid) == (b"data", os.getpid())
        os.write(write_end, b"through")
        assert os.read(packet.descriptors[0], 10) == b"through"
        assert not os.get_inheritable(packet.descriptors[0])
        for descriptor in (write_end, *packet.descriptors):
            os.close(descriptor)
        theirs.close()
        assert receive(ours) is None


def test_the_sender_of_a_packet_is_known_also_if_its_descriptors_may_not_be_opened() -> None:
    """The master took the answer of a worker for that of a stranger, and waited for it for ever."""
    ours, theirs = socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        send(theirs, messages.encode(messages.MetricsTold(3)), [ours.fileno(), theirs.fileno()])
        received: list[Received] = []
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        loop = asyncio.new_event_loop()
        channel = Channel(ours, loop, received.append, lambda _: None)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
        try:
            channel.read_pending()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        channel.close()
        loop.close()
    assert received == [Received(messages.MetricsTold(3), (), os.getpid(), lacks_descriptors=True)]


def test_the_last_words_of_a_peer_that_left_packets_unread_arrive() -> None:
    ours, theirs = socketpair()
    with ours, theirs:
        send(ours, b"never read")
        send(theirs, b"last words")
        theirs.close()
        packet = receive(ours)
        assert packet is not None
        assert packet.data == b"last words"
        assert receive(ours) is None


def test_a_packet_that_was_cut_is_an_error() -> None:
    ours, theirs = socketpair()
    with ours, theirs:
        send(theirs, b"x" * (messages.PACKET_BYTES + 1))
        with pytest.raises(messages.ProtocolError, match="cut"):
            receive(ours)


def test_control_requests_come_back_as_they_were_meant() -> None:
    line, command = control.request_line, control.Command
    assert control.parse_request(line(command.RELOAD)) == control.Request(command.RELOAD)
    assert control.parse_request(line(command.RELOAD, wait=False)) == control.Request(command.RELOAD, wait=False)
    assert control.parse_request(line(command.SCALE, workers=3)) == control.Request(command.SCALE, workers=3)
    fewer = control.Request(command.SCALE, workers=-2, relative=True)
    assert control.parse_request(line(command.SCALE, workers="-2")) == fewer
    for message in (None, [1, {"a": "b"}]):
        asked = control.parse_request(line(command.SEND, slot=2, message=message))
        assert asked == control.Request(command.SEND, slot=2, message=message)
        asked = control.parse_request(line(command.SEND, slot="all", message=message))
        assert asked == control.Request(command.SEND, slot=control.ALL_SLOTS, message=message)
    for either in (command.STACKS, command.KILL):
        assert control.parse_request(line(either, slot="hooks")) == control.Request(either, slot=control.HOOKS)
    killed = control.Request(command.KILL, slot=2, signal=signal.SIGUSR1)
    for name in ("usr1", "SIGUSR1", int(signal.SIGUSR1)):
        assert control.parse_request(line(command.KILL, slot=2, signal=name)) == killed


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"x", "JSON"),
        (b"[]", "not a JSON object"),
        (b'{"version": 9}', "version 9"),
        (b'{"version": 1, "command": "up"}', "unknown command 'up'; known are: status, top, reload"),
        (b'{"version": 1, "command": "status", "slot": 1}', "unknown argument 'slot'; it takes nothing"),
        (b'{"version": 1, "command": "restart"}', "slot is missing"),
        (b'{"version": 1, "command": "restart", "slot": 0}', "slot: 0 is not the number of a slot"),
        (b'{"version": 1, "command": "restart", "slot": "hooks"}', "slot: 'hooks' is not the number of a slot"),
        (b'{"version": 1, "command": "profile", "slot": 1, "seconds": 601}', "is not a number from 1 to 600"),
        (b'{"version": 1, "command": "memory", "slot": 1, "seconds": true}', "is not a number from 1 to 600"),
        (b'{"version": 1, "command": "profile"}', "slot is missing"),
        (b'{"version": 1, "command": "stacks", "slot": "all"}', '(1, 2 and so on), nor "hooks"'),
        (b'{"version": 1, "command": "restart", "slot": true}', "slot: True is not the number"),
        (b'{"version": 1, "command": "scale", "workers": "many"}', "neither a number from 1 to"),
        (b'{"version": 1, "command": "scale", "workers": 0}', "neither a number from 1 to"),
        (b'{"version": 1, "command": "scale", "workers": "1.5"}', "neither a number from 1 to"),
        (b'{"version": 1, "command": "kill", "slot": 1, "signal": "FOO"}', "no signal 'FOO'"),
        (b'{"version": 1, "command": "kill", "slot": 1, "signal": 999}', "no signal 999"),
        (b'{"version": 1, "command": "events", "follow": 1}', "follow: 1 is neither true nor false"),
        (b'{"version": 1, "command": "send", "slot": 1}', "send: message is missing"),
        (b'{"version": 1, "command": "send", "message": 1}', "send: slot is missing"),
        (b'{"version": 1, "command": "send", "slot": "some", "message": 1}', "slot: 'some' is not the number"),
        (b'{"version": 1, "command": "kill", "slot": "all"}', "slot: 'all' is not the number"),
        (b'{"version": 1, "command": "send", "slot": 0, "message": 1}', "slot: 0 is not the number"),
    ],
)
def test_a_control_request_that_is_none_is_refused_with_what_is_allowed(line: bytes, words: str) -> None:
    with pytest.raises(control.ControlError, match=re.escape(words)):
        control.parse_request(line)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_whatever_is_an_argument_no_other_error_escapes(value: object) -> None:
    for command in control.Command:
        for key in ("slot", "workers", "signal", "level", "follow", "diff", "wait"):
            try:
                control.parse_request(control.request_line(command, **{key: value}))
            except control.ControlError as error:
                assert str(error)

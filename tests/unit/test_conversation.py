"""What is said arrives, in order, or is refused where it is said; what is asked is answered, or is said not to be."""

import asyncio
import math
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.wire.channel import Channel, Received
from clusterd.wire.conversation import (
    ERROR_CHARACTERS,
    MOST_WAITING,
    Conversation,
    Disconnected,
    Incoming,
    QueueFull,
    Reply,
    RequestFailed,
)
from clusterd.wire.messages import PACKET_BYTES, VALUE_BYTES, Ack, AppMessage, encode
from clusterd.wire.packets import receive, send, socketpair
from clusterd.wire.values import MOST_NESTED, encoded
from tests.support.talking import PATIENCE_SECONDS, Heard, on_a_loop, talking, unheard, until

pytestmark = pytest.mark.engine_independent


def nested(depth: int) -> Any:
    value: Any = 0
    for number in range(depth):
        value = [value] if number % 2 else {"key": value}
    return value


# ---- values


def test_the_largest_value_fits_a_packet_with_everything_around_it() -> None:
    largest = "x" * (VALUE_BYTES - 2)
    encoded(largest)
    assert len(encode(AppMessage(largest, 2**63, 2**63))) <= PACKET_BYTES
    assert len(encode(AppMessage(None, 0, 2**63, "\0" * ERROR_CHARACTERS))) <= PACKET_BYTES


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        ("x" * (VALUE_BYTES - 1), ValueError, f"a message of {VALUE_BYTES + 1} bytes as JSON; at most {VALUE_BYTES}"),
        ("\u20ac" * (VALUE_BYTES // 6), ValueError, f"a message of {VALUE_BYTES + 2} bytes"),
        (nested(MOST_NESTED + 1), ValueError, f"nested {MOST_NESTED + 1} deep; at most {MOST_NESTED}"),
        (nested(100_000), ValueError, "nested more than|bytes as JSON"),
        (math.nan, ValueError, "not JSON compliant"),
        (b"bytes", TypeError, "bytes is not JSON serializable"),
        ({(1, 2): 3}, TypeError, "keys must be"),
    ],
    ids=["long", "escaped", "deep", "abyss", "nan", "bytes", "key"],
)
def test_what_can_not_be_said_is_refused_where_it_is_said(value: Any, kind: type[Exception], words: str) -> None:
    conversation = Conversation()
    for say in (conversation.send, lambda value: conversation.request(value, None)):
        with pytest.raises(kind, match=words):
            say(value)
    assert conversation.unsent == 0


def test_brackets_in_text_are_not_nesting() -> None:
    encoded('["' * 200)
    encoded([nested(MOST_NESTED - 1), '\\"[[[[' * 100])


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda kids: st.lists(kids, max_size=9)))
def test_any_value_of_json_arrives_as_it_is(value: Any) -> None:
    async def say() -> None:
        heard = Heard()
        ours, theirs = Conversation(), Conversation()
        async with talking(ours, unheard, theirs, heard.deliver):
            ours.send(value)
            assert await heard.wait_for(1) == [value]

    asyncio.run(say())


# ---- messages


@on_a_loop
async def test_nothing_is_lost_and_order_is_kept_beyond_what_the_socket_holds() -> None:
    heard = Heard()
    ours, theirs = Conversation(), Conversation()
    values = [{"number": number, "padding": "x" * 2000} for number in range(MOST_WAITING)]
    async with talking(ours, unheard, theirs, heard.deliver):
        for value in values:
            ours.send(value)
        assert await heard.wait_for(MOST_WAITING) == values
        assert ours.unsent == 0


@on_a_loop
async def test_what_is_said_before_there_is_a_channel_is_sent_when_there_is_one() -> None:
    heard = Heard()
    ours, theirs = Conversation(), Conversation()
    ours.send("early")
    async with talking(ours, unheard, theirs, heard.deliver):
        ours.send("late")
        assert await heard.wait_for(2) == ["early", "late"]


@on_a_loop
async def test_threads_may_send_and_each_is_heard_in_its_order() -> None:
    heard = Heard()
    ours, theirs = Conversation(), Conversation()

    def talk(who: int) -> None:
        for number in range(200):
            ours.send([who, number])

    async with talking(ours, unheard, theirs, heard.deliver):
        await asyncio.gather(*(asyncio.to_thread(talk, who) for who in range(4)))
        values: list[Any] = await heard.wait_for(800)
    for who in range(4):
        assert [number for each, number in values if each == who] == list(range(200))


@on_a_loop
async def test_one_message_too_many_is_refused_until_another_was_dealt_with() -> None:
    waiting: list[Incoming] = []
    ours, theirs = Conversation(), Conversation()
    async with talking(ours, unheard, theirs, waiting.append):
        for number in range(MOST_WAITING):
            ours.send(number)
        with pytest.raises(QueueFull, match=f"{MOST_WAITING} messages wait"):
            ours.send("too many")
        await ours.flushed()
        with pytest.raises(QueueFull):
            ours.send("out, and not dealt with")
        with pytest.raises(QueueFull):
            ours.request("a request is a message too", None)
        await until(lambda: len(waiting) == MOST_WAITING)
        waiting[0].taken()
        await until_sent(ours, "again")
        with pytest.raises(QueueFull):
            ours.send("one place only")


async def until_sent(conversation: Conversation, value: Any) -> None:
    """As soon as there is room."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                conversation.send(value)
                return
            except QueueFull:
                await asyncio.sleep(0)


# ---- requests


def echo(incoming: Incoming) -> None:
    incoming.reply({"you said": incoming.value})
    incoming.taken()


@on_a_loop
async def test_a_request_is_answered_on_the_loop_and_in_a_thread() -> None:
    ours, theirs = Conversation(), Conversation()
    async with talking(ours, unheard, theirs, echo):
        assert await ours.request(1, 60) == {"you said": 1}
        assert await asyncio.to_thread(lambda: ours.request(2, None).result()) == {"you said": 2}
        both = await asyncio.gather(ours.request("a", 60), ours.request("b", 60))
        assert list(both) == [{"you said": "a"}, {"you said": "b"}]


@on_a_loop
async def test_a_request_is_awaited_on_another_loop() -> None:
    ours, theirs = Conversation(), Conversation()

    async def ask() -> Any:
        return await ours.request(1, 60)

    async with talking(ours, unheard, theirs, echo):
        assert await asyncio.to_thread(lambda: asyncio.run(ask())) == {"you said": 1}


@on_a_loop
async def test_waiting_on_the_loop_is_refused() -> None:
    ours, theirs = Conversation(), Conversation()
    async with talking(ours, unheard, theirs, echo):
        reply = ours.request(1, 60)
        with pytest.raises(RuntimeError, match="await the reply instead"):
            reply.result()
        assert await reply == {"you said": 1}


@on_a_loop
async def test_a_request_that_is_refused_says_why() -> None:
    ours, theirs = Conversation(), Conversation()

    def refuse(incoming: Incoming) -> None:
        incoming.refuse("no" * ERROR_CHARACTERS)

    async with talking(ours, unheard, theirs, refuse):
        with pytest.raises(RequestFailed, match=r"^nono") as raised:
            await ours.request(1, 60)
        assert len(str(raised.value)) == ERROR_CHARACTERS


def test_why_there_is_no_answer_is_all_that_is_raised() -> None:
    future: Future[Any] = Future()
    future.set_exception(RequestFailed("no handler"))
    with pytest.raises(RequestFailed) as raised:
        Reply(future).result()
    assert raised.value.__context__ is None


@on_a_loop
async def test_a_request_has_its_time_and_a_late_reply_is_nobodys() -> None:
    asked: list[Incoming] = []
    ours, theirs = Conversation(), Conversation()
    async with talking(ours, unheard, theirs, asked.append):
        with pytest.raises(TimeoutError, match="has not answered in time"):
            await ours.request(1, 0.001)
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(lambda: ours.request(2, 0.001).result())
        await until(lambda: len(asked) == 2)
        asked[0].reply("late")
        third = asyncio.ensure_future(ours.request(3, 60))
        await until(lambda: len(asked) == 3)
        asked[2].reply("in time")
        assert await third == "in time"


@on_a_loop
async def test_a_request_of_before_there_is_a_channel_has_its_time_too() -> None:
    asked: list[Incoming] = []
    ours, theirs = Conversation(), Conversation()
    reply = ours.request(1, 0.001)
    async with talking(ours, unheard, theirs, asked.append):
        with pytest.raises(TimeoutError):
            await reply


@on_a_loop
async def test_whoever_gives_up_waiting_is_not_told() -> None:
    asked: list[Incoming] = []
    ours, theirs = Conversation(), Conversation()
    async with talking(ours, unheard, theirs, asked.append):
        task = asyncio.ensure_future(ours.request(1, 60))
        await until(lambda: asked)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        asked[0].reply("nobody waits")
        second = asyncio.ensure_future(ours.request(2, 60))
        await until(lambda: len(asked) == 2)
        asked[1].reply("somebody does")
        assert await second == "somebody does"


@on_a_loop
async def test_when_the_other_side_goes_nobody_waits_for_it() -> None:
    asked: list[Incoming] = []
    ours, theirs = Conversation(), Conversation()
    async with talking(ours, unheard, theirs, asked.append) as (_, their_channel):
        reply = ours.request(1, None)
        await until(lambda: asked)
        their_channel.close()
        with pytest.raises(Disconnected, match="has not answered"):
            await reply
        with pytest.raises(Disconnected):
            ours.send("anybody?")


def test_threads_that_ask_as_the_loop_ends_are_told_that_the_other_side_is_gone() -> None:
    told: list[str] = []

    def ask(conversation: Conversation) -> None:
        try:
            while True:
                conversation.request(1, 60.0, most_waiting=None)
        except Exception as error:
            told.append(str(error))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(150):
            _end_while_asked(ask)
    finally:
        sys.setswitchinterval(interval)
    assert set(told) == {"the other side is gone"}


def _end_while_asked(ask: Callable[[Conversation], None]) -> None:
    loop, conversation, (ours, theirs) = asyncio.new_event_loop(), Conversation(), socketpair()
    with ours, theirs:
        channel = Channel(ours, loop, lambda _: None, lambda _: None)
        conversation.attach(channel, loop, unheard)
        threads = [threading.Thread(target=ask, args=(conversation,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        conversation.end()
        channel.close()
        loop.close()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)


def test_a_thread_that_waits_is_told_when_the_other_side_goes() -> None:
    told: list[BaseException] = []
    conversation = Conversation()
    reply = conversation.request(1, None)

    def wait() -> None:
        try:
            reply.result()
        except Disconnected as error:
            told.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    conversation.end()
    thread.join(60)
    assert len(told) == 1


def test_the_requests_of_a_later_program_have_numbers_of_their_own() -> None:
    numbers: list[int] = []
    for _ in range(2):
        conversation = Conversation()
        conversation.request("?", None)
        numbers += conversation._pending  # noqa: SLF001 - no message shows it before it is sent
    assert len(set(numbers)) == 2


# ---- another process at the other side


@on_a_loop
async def test_whoever_waits_for_a_peer_that_has_changed_is_told_and_the_next_is_answered() -> None:
    asked: list[Incoming] = []
    over: list[bool] = []
    ours, theirs = Conversation(), Conversation()
    async with talking(ours, unheard, theirs, asked.append):
        ours.send("said", on_over=over.append)
        first = ours.request(1, 60)
        await until(lambda: len(asked) == 2)
        ours.change_peer()
        with pytest.raises(Disconnected, match="has not answered"):
            await first
        assert over == [False]
        second = ours.request(2, 60)
        await until(lambda: len(asked) == 3)
        # The new one has read what was for the old one, as it waited in the socket.
        for number, each in enumerate(asked):
            each.reply(number)
            each.taken()
        assert await second == 2
        await until(lambda: ours.is_idle)
        assert over == [False]


@on_a_loop
async def test_what_is_not_written_when_the_peer_changes_reaches_the_new_one() -> None:
    heard: list[Incoming] = []
    over: list[tuple[int, bool]] = []
    padding = "x" * 20_000

    def note(number: int) -> Callable[[bool], None]:
        return lambda is_handled: over.append((number, is_handled))

    ours, theirs = Conversation(), Conversation()
    async with talking(ours, unheard, theirs, heard.append) as (_, their_channel):
        their_channel.pause_reading()
        for number in range(100):
            ours.send([number, padding], on_over=note(number))
        last = ours.request("the last", 60)
        await until(lambda: 0 < ours.unsent < 100)
        unsent = ours.unsent - 1
        ours.change_peer()
        assert over == [(number, False) for number in range(100 - unsent)]
        their_channel.resume_reading()
        await until(lambda: len(heard) == 101)
        assert [each.value[0] for each in heard[:100]] == list(range(100))
        heard[-1].reply("answered")
        assert await last == "answered"
        for each in heard:
            each.taken()
        await until(lambda: ours.is_idle)
        assert over[100 - unsent :] == [(number, True) for number in range(100 - unsent, 100)]


@on_a_loop
async def test_the_new_peer_hears_nothing_of_what_the_old_one_has_said() -> None:
    said: list[Incoming] = []
    conversation, (ours, theirs) = Conversation(), socketpair()

    def receive_it(received: Received) -> None:
        assert isinstance(received.message, AppMessage)
        conversation.received(received.message)

    loop = asyncio.get_running_loop()
    channel = Channel(ours, loop, receive_it, lambda _: None)
    conversation.attach(channel, loop, said.append)
    with theirs:
        for message in (AppMessage("of the old one"), AppMessage("of the old one", request=7)):
            send(theirs, encode(message))
        await until(lambda: len(said) == 2)
        said[0].taken()
        said[1].reply("waits to be written")
        conversation.change_peer()
        for each in said:
            each.reply("too late")
            each.refuse("too late")
            each.taken()
        send(theirs, encode(AppMessage("of the new one")))
        await until(lambda: len(said) == 3)
        said[2].taken()
        await conversation.flushed()
        channel.close()
        packet = receive(theirs)
        assert packet is not None
        assert packet.data == encode(Ack(1))
        assert receive(theirs) is None


@on_a_loop
async def test_a_change_of_the_peer_after_its_end_changes_nothing() -> None:
    ours, theirs = Conversation(), Conversation()
    async with talking(ours, unheard, theirs, unheard):
        ours.end()
        ours.change_peer()
        with pytest.raises(Disconnected):
            ours.send("anybody?")


def test_requests_of_other_threads_while_the_peer_changes_are_answered_or_told() -> None:
    """Not one of them waits for ever."""
    told: list[str] = []
    enough = threading.Event()

    def ask(conversation: Conversation) -> None:
        while not enough.is_set():
            try:
                told.append(conversation.request(1, None, most_waiting=None).result())
            except Disconnected as error:
                told.append(str(error))

    def has_told(count: int) -> bool:
        return len(told) > count

    async def run() -> None:
        ours, theirs = Conversation(), Conversation()

        def answer(incoming: Incoming) -> None:
            incoming.reply("answered")
            incoming.taken()

        async with talking(ours, unheard, theirs, answer):
            threads = [threading.Thread(target=ask, args=(ours,)) for _ in range(3)]
            for thread in threads:
                thread.start()
            for number in range(50):
                await until(partial(has_told, 10 * number))
                ours.change_peer()
            enough.set()
            await until(lambda: not any(thread.is_alive() for thread in threads))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        asyncio.run(run())
    finally:
        sys.setswitchinterval(interval)
    assert set(told) <= {"answered", "the other side is gone, and has not answered"}

"""Handlers of messages: who is called where, and what becomes of what they return and raise."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from clusterd.log import Logger
from clusterd.log.record import Record
from clusterd.log.sink import Sink
from clusterd.wire.conversation import MOST_WAITING, Conversation, QueueFull, RequestFailed
from clusterd.worker.api import Handler
from clusterd.worker.handling import THREAD_NAME, Handling
from tests.support.talking import on_a_loop, talking, unheard


class Lines(Sink):
    """A sink that keeps what is logged."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def write(self, record: Record) -> None:
        self.written.append(record.message)

    def flush(self) -> None:
        pass

    @property
    def text(self) -> str:
        return "\n".join(self.written)


@asynccontextmanager
async def handled_by(handlers: Sequence[Handler]) -> AsyncIterator[tuple[Conversation, Handling, Lines]]:
    """The other side of a worker with these handlers."""
    lines = Lines()
    handling = Handling(handlers, asyncio.get_running_loop(), Logger(lines))
    master, worker = Conversation(), Conversation()
    async with asyncio.timeout(60), talking(master, unheard, worker, handling.deliver):
        yield master, handling, lines
        await handling.finished()


@on_a_loop
async def test_what_a_plain_handler_returns_is_the_reply() -> None:
    def double(message: Any) -> Any:
        return [2 * message, threading.current_thread().name]

    async with handled_by([double]) as (master, _, _):
        assert await master.request(21, 60) == [42, THREAD_NAME]


@on_a_loop
async def test_what_an_async_handler_returns_is_the_reply() -> None:
    async def double(message: Any) -> Any:
        await asyncio.sleep(0)
        return [2 * message, threading.current_thread() is threading.main_thread()]

    async with handled_by([double]) as (master, _, _):
        assert await master.request(21, 60) == [42, True]


@on_a_loop
async def test_plain_handlers_see_messages_in_order_one_at_a_time() -> None:
    seen: list[tuple[int, int]] = []

    def note(message: int) -> None:
        seen.append((message, threading.get_ident()))

    async with handled_by([note]) as (master, handling, _):
        for number in range(100):
            master.send(number)
        await master.request(100, 60)
        await handling.finished()
    assert [number for number, _ in seen] == list(range(101))
    assert len({thread for _, thread in seen}) == 1


@on_a_loop
async def test_every_handler_gets_a_message_and_the_first_one_answers() -> None:
    seen: list[str] = []

    async def first(message: str) -> str:
        seen.append(f"first {message}")
        return "first"

    def second(message: str) -> str:
        seen.append(f"second {message}")
        return "second"

    async with handled_by([first, second]) as (master, handling, _):
        assert await master.request("x", 60) == "first"
        await handling.finished()
    assert sorted(seen) == ["first x", "second x"]


@on_a_loop
async def test_a_slow_handler_delays_no_other_kind() -> None:
    may_end = threading.Event()
    quick: list[str] = []

    def slow(message: str) -> None:
        may_end.wait(60)

    async def fast(message: str) -> str:
        quick.append(message)
        return "done"

    async with handled_by([fast, slow]) as (master, handling, _):
        assert await master.request("one", 60) == "done"
        assert await master.request("two", 60) == "done"
        assert handling.unhandled == 2
        may_end.set()
        await handling.finished()
    assert quick == ["one", "two"]


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_an_exception_is_logged_with_its_traceback_and_changes_nothing(kind: str) -> None:
    def fails(message: str) -> str:
        if message == "bad":
            raise LookupError("no such thing")
        if message == "exit":
            raise SystemExit(3)
        return message

    async def fails_too(message: str) -> str:
        return fails(message)

    async def talk() -> None:
        async with handled_by([fails if kind == "plain" else fails_too]) as (master, _, lines):
            for bad in ("bad", "exit"):
                master.send(bad)
                with pytest.raises(RequestFailed, match=r"LookupError: no such thing|SystemExit: 3"):
                    await master.request(bad, 60)
                assert await master.request("good", 60) == "good"
        assert lines.text.count('raise LookupError("no such thing")') == 2
        assert lines.text.count("raise SystemExit(3)") == 2

    asyncio.run(talk())


@on_a_loop
async def test_a_reply_that_is_no_message_is_a_failure() -> None:
    async with handled_by([lambda _: b"bytes"]) as (master, _, lines):
        with pytest.raises(RequestFailed, match="lambda> of a message returned cannot be the reply: Object of type b"):
            await master.request(1, 60)
    assert "bytes is not JSON serializable" in lines.text
    assert "json/encoder.py" not in lines.text


@on_a_loop
async def test_without_a_handler_a_request_fails_and_it_is_logged_once() -> None:
    async with handled_by([]) as (master, handling, lines):
        for number in range(MOST_WAITING + 1):
            if number % 100 == 0:
                with pytest.raises(RequestFailed, match="the application has no handler"):
                    await master.request(number, 60)
            master.send(number)
        with pytest.raises(RequestFailed):
            await master.request("last", 60)
        assert handling.unhandled == 0
    assert len(lines.written) == 1


@on_a_loop
async def test_a_handler_that_does_not_keep_up_is_the_senders_to_know() -> None:
    may_end = threading.Event()
    seen: list[int] = []

    def slow(message: int) -> None:
        may_end.wait(60)
        seen.append(message)

    async with handled_by([slow]) as (master, _, _):
        for number in range(MOST_WAITING):
            master.send(number)
        await master.flushed()
        with pytest.raises(QueueFull):
            master.send("too many")
        may_end.set()
        while True:
            try:
                await master.request(MOST_WAITING, 60)
                break
            except QueueFull:
                await asyncio.sleep(0)
    assert seen == list(range(MOST_WAITING + 1))

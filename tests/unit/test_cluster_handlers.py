"""The thread that calls a program's handlers: in order, and never holding up whoever tells it something."""

import threading
from typing import Any

import pytest

from clusterd.hooks.handlers import CLUSTER_EVENTS, MOST_WAITING, WORKER_EVENTS, Handlers, Registry, Source
from clusterd.log import Logger
from clusterd.wire.conversation import Conversation, RequestFailed
from tests.support.talking import on_a_loop, talking, unheard
from tests.unit.test_handling import Lines

PATIENCE_SECONDS = 60.0


def handlers_of(registry: Registry) -> tuple[Handlers, Lines]:
    handlers, lines = Handlers(registry), Lines()
    handlers.start(Logger(lines))
    return handlers, lines


def a_worker() -> Source:
    worker = Source(WORKER_EVENTS)
    worker.id = 3
    return worker


def test_what_was_posted_before_the_start_comes_first_and_all_is_called_in_order_in_one_thread() -> None:
    registry, called = Registry(CLUSTER_EVENTS), list[Any]()
    handlers, worker = Handlers(registry), a_worker()
    registry.on("setup")(lambda settings: called.append((settings, threading.current_thread().name)))
    registry.on("exit")(lambda worker, code, signal: called.append((worker.id, code, signal)))
    worker.on("exit")(lambda code, signal: called.append((code, signal)))
    handlers.post("setup", None, {"workers": 1})
    handlers.start(Logger(Lines()))
    handlers.post("exit", worker, 0, None)
    assert handlers.finish(PATIENCE_SECONDS)
    assert called == [({"workers": 1}, "clusterd-handlers"), (3, 0, None), (0, None)]


def test_a_full_queue_is_logged_and_counted_and_the_others_are_told() -> None:
    registry, told, go_on, is_stuck = Registry(CLUSTER_EVENTS), list[int](), threading.Event(), threading.Event()

    @registry.on("setup")
    def wait(_: object) -> None:
        is_stuck.set()
        go_on.wait(PATIENCE_SECONDS)

    registry.on("online")(lambda worker: told.append(worker.id))
    handlers, lines = handlers_of(registry)
    handlers.post("setup", None, {})
    assert is_stuck.wait(PATIENCE_SECONDS)
    for _ in range(MOST_WAITING + 2):
        handlers.post("online", a_worker())
    assert handlers.dropped == 2
    assert lines.written == [f"{MOST_WAITING} events wait for their handlers: an event was dropped"] * 2
    go_on.set()
    assert handlers.finish(PATIENCE_SECONDS)
    assert len(told) == MOST_WAITING


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_the_first_handler_answers_and_one_that_fails_says_why(kind: str) -> None:
    def answer(worker: Source, message: str) -> str:
        if message == "fail":
            raise LookupError("no such thing")
        return f"{worker.id}: {message}"

    async def answer_too(worker: Source, message: str) -> str:
        return answer(worker, message)

    async def talk() -> None:
        registry, worker = Registry(CLUSTER_EVENTS), a_worker()
        registry.on("message")(answer if kind == "plain" else answer_too)
        registry.on("message")(lambda worker, message: "not this")
        handlers, lines = handlers_of(registry)
        ours, theirs = Conversation(), Conversation()
        async with talking(ours, lambda incoming: handlers.post_message(worker, incoming), theirs, unheard):
            assert await theirs.request("hello", PATIENCE_SECONDS) == "3: hello"
            with pytest.raises(RequestFailed, match="LookupError: no such thing"):
                await theirs.request("fail", PATIENCE_SECONDS)
            assert await theirs.request("again", PATIENCE_SECONDS) == "3: again"
        assert handlers.finish(PATIENCE_SECONDS)
        assert lines.text.count('raise LookupError("no such thing")') == 1

    on_a_loop(talk)()


@on_a_loop
async def test_a_reply_that_is_no_message_is_named_as_one() -> None:
    registry = Registry(CLUSTER_EVENTS)
    registry.on("message")(lambda worker, message: b"bytes")
    handlers, lines = handlers_of(registry)
    ours, theirs = Conversation(), Conversation()
    async with talking(ours, lambda incoming: handlers.post_message(a_worker(), incoming), theirs, unheard):
        with pytest.raises(RequestFailed, match="lambda> of 'message' returned cannot be the reply: Object of type b"):
            await theirs.request("hello", PATIENCE_SECONDS)
    assert handlers.finish(PATIENCE_SECONDS)
    assert "encoder.py" not in lines.text


def test_a_handler_that_can_not_take_what_it_is_given_is_refused_where_it_is_registered() -> None:
    with pytest.raises(
        TypeError, match=r"lambda> takes \(worker\); a handler of 'exit' is given \(worker, code, signal"
    ):
        Registry(CLUSTER_EVENTS).on("exit")(lambda worker: None)
    with pytest.raises(
        TypeError, match=r"takes \(worker, code, signal\); a handler of 'exit' is given \(code, signal\)"
    ):
        a_worker().on("exit")(lambda worker, code, signal: None)
    with pytest.raises(
        TypeError, match=r'on is called with the name of an event, as in @cluster.on\("exit"\); there are'
    ):
        Registry(CLUSTER_EVENTS).on(print)  # type: ignore[arg-type]


@on_a_loop
async def test_without_a_handler_a_request_is_refused_and_a_message_warned_of_once() -> None:
    handlers, lines = handlers_of(Registry(CLUSTER_EVENTS))
    ours, theirs = Conversation(), Conversation()
    async with talking(ours, lambda incoming: handlers.post_message(a_worker(), incoming), theirs, unheard):
        for _ in range(3):
            theirs.send("hello")
        with pytest.raises(RequestFailed, match="the program has no handler"):
            await theirs.request("hello", PATIENCE_SECONDS)
    assert handlers.finish(PATIENCE_SECONDS)
    assert len(lines.written) == 1

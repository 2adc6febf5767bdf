"""How much may wait, for how long, and who is told: messages at their limits."""

import os
import signal
from collections.abc import Callable

import pytest

from clusterd.wire.conversation import MOST_WAITING
from clusterd.wire.messages import VALUE_BYTES
from tests.support.following import Following
from tests.support.service import Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]

TALKS = """
from clusterd import worker

def app(environ, start_response):
    start_response("200 OK", [])
    sent = 0
    try:
        while sent < 100_000:
            worker.send(sent)
            sent += 1
    except worker.QueueFull as full:
        return [f"{sent} {full}".encode()]
    return [b"there is no limit"]
"""


def test_a_full_queue_raises_and_what_was_taken_before_arrives_in_order(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.deploy("1", TALKS)
    service.start()
    with Following(service) as following:
        service.signal(signal.SIGSTOP)
        try:
            said = service.get().text
        finally:
            service.signal(signal.SIGCONT)
        assert said == f"{MOST_WAITING} {MOST_WAITING} messages wait for the other side already"
        assert following.messages(MOST_WAITING) == list(range(MOST_WAITING))


WRONG = """
from clusterd import worker

def app(environ, start_response):
    start_response("200 OK", [])
    answers = []
    for value in ("x" * 70_000, {1, 2}, float("nan")):
        try:
            worker.send(value)
        except (TypeError, ValueError) as error:
            answers.append(f"{type(error).__name__}: {error}")
    return ["\\n".join(answers).encode()]
"""


def test_what_is_no_message_is_refused_where_it_is_sent(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.deploy("1", WRONG)
    service.start()
    large, odd, nan = service.get().text.splitlines()
    assert large == f"ValueError: a message of 70002 bytes as JSON; at most {VALUE_BYTES} are possible"
    assert odd == "TypeError: Object of type set is not JSON serializable"
    assert nan.startswith("ValueError: Out of range float values")


WAITS = """
import pathlib, threading
from clusterd import worker

@worker.on("message")
def wait(message):
    worker.send(["begun", message])
    (pathlib.Path(__file__).parent / "gate").read_text()  # a FIFO: until somebody writes
    worker.send(["done", message])

@worker.on("message")
async def at_once(message):
    worker.send(["seen", message])

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"served"]
"""


@pytest.fixture
def waiting(make_service: MakeService) -> Service:
    service = make_service(workers=1, timeouts={"drain": "60s"})
    service.deploy("1", WAITS)
    os.mkfifo(service.directory / "gate")
    return service.start()


def open_gate(service: Service) -> None:
    """Once: let the handler that waits go on."""
    (service.directory / "gate").write_text("")


def test_a_slow_handler_delays_neither_requests_nor_others(waiting: Service) -> None:
    with Following(waiting) as following:
        waiting.ask_to("send", slot=1, message="a")
        following.wait_for_message(["begun", "a"])
        waiting.ask_to("send", slot=1, message="b")
        following.wait_for_message(["seen", "b"])
        assert waiting.get().text == "served"
        for message in ("a", "b"):
            open_gate(waiting)
            following.wait_for_message(["done", message])


def test_a_worker_that_does_not_keep_up_is_said_to_whoever_sends(waiting: Service) -> None:
    with Following(waiting) as following:
        for number in range(MOST_WAITING):
            assert waiting.ask_to("send", slot=1, message=number)["succeeded"], number
        refused = waiting.ask_to("send", slot="all", message="too many")
        assert refused["succeeded"] is False
        assert (
            refused["text"] == f"sent to 0 workers; worker 1: {MOST_WAITING} messages wait for the other side already"
        )
        following.wait_for_message(["begun", 0])
        open_gate(waiting)
        following.wait_for_message(["done", 0])
        wait_until(lambda: waiting.ask_to("send", slot=1, message="last")["succeeded"], "room for another message")


def test_a_drain_waits_for_the_handlers(waiting: Service) -> None:
    with Following(waiting) as following:
        waiting.ask_to("send", slot=1, message="a")
        begun = following.wait_for_message(["begun", "a"])
        assert waiting.ask_to("restart", slot=1)["succeeded"]
        assert [worker["pid"] for worker in waiting.workers("draining")] == [begun["pid"]]
        open_gate(waiting)
        assert following.wait_for_message(["done", "a"])["pid"] == begun["pid"]
        waiting.wait_for_line(f"worker ended: exit status 0.*pid={begun['pid']} reason=restart")


def test_a_drain_does_not_wait_for_ever(make_service: MakeService) -> None:
    service = make_service(workers=1, timeouts={"drain": "200ms"})
    service.deploy("1", WAITS)
    os.mkfifo(service.directory / "gate")
    service.start()
    with Following(service) as following:
        service.ask_to("send", slot=1, message="a")
        begun = following.wait_for_message(["begun", "a"])
        service.ask_to("restart", slot=1)
        service.wait_for_line("the handling of 1 messages was cut")
        service.wait_for_line(f"worker ended: .*pid={begun['pid']} reason=restart")

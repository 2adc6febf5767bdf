"""The sender of a hand-over beside a receiver that misbehaves: what is not acknowledged stays with the sender."""

import asyncio
import socket

import pytest

from clusterd.wire.offers import OfferSender
from clusterd.wire.packets import close_all, receive, send, socketpair
from clusterd.wire.passing import Answer, Decline
from tests.support.talking import on_a_loop

NAMES = ["first", "second", "third"]


class Sending:
    """A sender that has offered one connection for each of NAMES, and what it has read."""

    def __init__(self) -> None:
        ours, self.receiver = socketpair()
        self.sock, self._other = socket.socketpair()
        self.answered: list[tuple[str, Decline | None]] = []
        self.news = asyncio.Event()
        self.sender: OfferSender[str] = OfferSender(ours, asyncio.get_running_loop(), self._read)
        for name in NAMES:
            self.sender.offer(name, self.sock.fileno(), {})

    def _read(self) -> None:
        self.answered.extend(self.sender.answers())
        self.news.set()
        if self.sender.has_ended:
            self.sender.close()

    def close(self) -> None:
        self.sender.close()
        for sock in (self.receiver, self.sock, self._other):
            sock.close()


@pytest.mark.parametrize("rubbish", [b"?", b"[" * 5000, b'{"number": 4, "declined": null}', b'{"number": 1}', b"{}"])
def test_a_receiver_that_answers_nonsense_has_ended(rubbish: bytes) -> None:
    @on_a_loop
    async def run() -> None:
        given = Sending()
        send(given.receiver, Answer(2).encode())
        send(given.receiver, rubbish)
        given.sender.call_when_writable(lambda: None)
        answered = list(given.sender.last_answers())
        assert answered == [("second", None)]
        assert given.sender.has_ended
        assert given.sender.close() == ["first", "third"]
        given.close()

    run()


@on_a_loop
async def test_an_answer_is_told_once_and_its_connection_forgotten() -> None:
    given = Sending()
    send(given.receiver, Answer(1).encode())
    send(given.receiver, Answer(3, Decline.FULL).encode())
    await asyncio.wait_for(given.news.wait(), 5)
    assert given.answered == [("first", None), ("third", Decline.FULL)]
    assert list(given.sender.unanswered) == ["second"]
    given.close()


@on_a_loop
async def test_after_the_last_answers_the_receiver_cannot_take_a_connection() -> None:
    given = Sending()
    send(given.receiver, Answer(1).encode())
    assert list(given.sender.last_answers()) == [("first", None)]
    with pytest.raises(BrokenPipeError):
        send(given.receiver, Answer(2).encode())
    assert given.sender.close() == ["second", "third"]
    given.close()


@on_a_loop
async def test_an_offer_that_is_not_sent_has_no_number() -> None:
    given = Sending()
    with pytest.raises(BlockingIOError):
        for number in range(10_000):
            given.sender.offer(f"further {number}", given.sock.fileno(), {})
    count = len(given.sender)
    writable = asyncio.Event()
    given.sender.call_when_writable(writable.set)
    given.receiver.setblocking(False)
    for _ in range(count):
        packet = receive(given.receiver)
        assert packet is not None
        close_all(packet.descriptors)
    await asyncio.wait_for(writable.wait(), 5)
    given.sender.offer("last", given.sock.fileno(), {})
    assert len(given.sender) == count + 1
    send(given.receiver, Answer(count + 1).encode())
    assert list(given.sender.answers()) == [("last", None)]
    given.close()


@on_a_loop
async def test_closing_in_the_middle_of_the_answers_ends_them() -> None:
    given = Sending()
    for number in (1, 2):
        send(given.receiver, Answer(number).encode())
    for name, _ in given.sender.answers():
        assert name == "first"
        assert given.sender.close() == ["second", "third"]
    given.close()

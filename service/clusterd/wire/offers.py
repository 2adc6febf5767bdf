"""The sender of the protocol in wire/passing.py. A worker and the master both hand over connections with it."""

import asyncio
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from clusterd.wire.endpoint import SeqpacketEndpoint
from clusterd.wire.messages import ProtocolError
from clusterd.wire.packets import close_all
from clusterd.wire.passing import Answer, Decline, Offer

Item = TypeVar("Item")


class OfferSender(Generic[Item]):
    """Offers connections, and keeps each until the receiver has answered. `Item` is what the user keeps for one.

    `on_answers` is called when answers have arrived; it reads them with `answers`.
    """

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop, on_answers: Callable[[], None]) -> None:
        self._endpoint = SeqpacketEndpoint(sock, loop, on_answers)
        self._number = 0
        self._unanswered: dict[int, Item] = {}
        self.has_ended = False
        """Whether the receiver has closed its end or violates the protocol. It will not answer any more."""

    @property
    def unanswered(self) -> Iterable[Item]:
        """The oldest offer is the first."""
        return self._unanswered.values()

    def __len__(self) -> int:
        return len(self._unanswered)

    def fileno(self) -> int:
        """The descriptor on which answers arrive."""
        return self._endpoint.fileno()

    def offer(
        self, item: Item, descriptor: int, carried: dict[str, object], *, anyway: bool = True, given: bool = False
    ) -> None:
        """Offer a connection. The receiver must take it if `anyway` is true; `given` as in `passing.Offer`.

        Raises BlockingIOError (the receiver's queue is full) or OSError (the receiver is gone; `answers` still has its
        last answers). In both cases nothing is sent.
        """
        self._endpoint.send(Offer(self._number + 1, carried, anyway, given).encode(), [descriptor])
        self._number += 1
        self._unanswered[self._number] = item

    def call_when_writable(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, as soon as the receiver's queue has room."""
        self._endpoint.call_when_writable(callback)

    def answers(self) -> Iterator[tuple[Item, Decline | None]]:
        """Read the answers that have arrived. Stops at the end, which `has_ended` tells, or when this is closed."""
        while self._endpoint.is_open:
            try:
                packet = self._endpoint.receive()
                if packet is None:
                    raise ProtocolError("closed")
                close_all(packet.descriptors)
                answer = Answer.decode(packet.data)
                item = self._unanswered.pop(answer.number)
            except BlockingIOError:
                return
            except (OSError, ProtocolError, KeyError):
                self.has_ended = True
                return
            yield item, answer.declined

    def last_answers(self) -> Iterator[tuple[Item, Decline | None]]:
        """Keep the receiver from answering any more, and read what it has answered so far."""
        if self._endpoint.is_open:
            self._endpoint.shut_down_reading()
        return self.answers()

    def close(self) -> list[Item]:
        """Close the socket. Returns what the receiver has not answered for, if `last_answers` was read before."""
        self._endpoint.close()
        left, self._unanswered = list(self._unanswered.values()), {}
        return left

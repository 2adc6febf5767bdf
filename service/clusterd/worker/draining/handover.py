"""Sender and receiver of connections that pass to another process over a socketpair (protocol: wire/passing.py)."""

import asyncio
import os
import socket
import stat
from collections import deque
from collections.abc import Callable, Iterable

from clusterd.http.engine import Connection
from clusterd.runtime import originals
from clusterd.wire.connection_state import CarriedState
from clusterd.wire.endpoint import SeqpacketEndpoint
from clusterd.wire.messages import ProtocolError
from clusterd.wire.offers import OfferSender
from clusterd.wire.packets import DescriptorsMissing, Packet, close_all
from clusterd.wire.passing import Answer, Decline, Offer


class Sender:
    """Hands over connections, and keeps each until the receiver has acknowledged it."""

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        on_moved: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._offers: OfferSender[Connection] = OfferSender(sock, loop, self._read)
        self._on_moved = on_moved
        self._on_lost = on_lost
        self._unsent: deque[tuple[Connection, CarriedState]] = deque()
        self._declined: list[Connection] = []

    def pass_on(self, connection: Connection) -> None:
        """Offer `connection`, which must be movable, to the successor."""
        self._unsent.append((connection, connection.detach()))
        self._write()

    def close(self) -> list[Connection]:
        """Take back the connections that the successor has not acknowledged, and return them."""
        self._release(self._offers.last_answers())
        kept = [*self._declined, *self._offers.close(), *(connection for connection, _ in self._unsent)]
        self._declined.clear()
        self._unsent.clear()
        for connection in kept:
            connection.resume()
        return kept

    def _write(self) -> None:
        while self._unsent:
            connection, carried = self._unsent[0]
            try:
                self._offers.offer(connection, connection.fileno(), carried.to_json())
            except BlockingIOError:
                self._offers.call_when_writable(self._write)
                return
            except OSError:
                # The successor is gone. The reader finds its last acknowledgements first, and then the end.
                return
            self._unsent.popleft()

    def _read(self) -> None:
        """A successor that declines has no descriptors left, and is treated as lost."""
        self._release(self._offers.answers())
        if self._offers.has_ended or self._declined:
            # on_lost comes first: a connection that resumes here must not be offered to this sender again.
            self._on_lost()
            self.close()

    def _release(self, answers: Iterable[tuple[Connection, Decline | None]]) -> None:
        """Drop the connections that the successor has. It may have acknowledged some after one that it declined."""
        for connection, declined in answers:
            if declined is None:
                connection.release()
                self._on_moved()
            else:
                self._declined.append(connection)


class Receiver:
    """Takes over the connections that another process offers. Acknowledges each, and then passes it to `adopt`.

    If `has_room` returns False, it declines the offers that are not marked `anyway`. `short` is called for each offer
    whose connection could not be received, as there are no descriptors left.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        adopt: Callable[[socket.socket, CarriedState], None],
        on_end: Callable[["Receiver"], None],
        has_room: Callable[[], bool] = lambda: True,
        short: Callable[[], None] = lambda: None,
    ) -> None:
        self._endpoint = SeqpacketEndpoint(sock, loop, self._read)
        self._adopt = adopt
        self._on_end = on_end
        self._has_room = has_room
        self._short = short
        self._held: Packet | None = None

    def finish(self) -> None:
        """Take the connections that have arrived, and close."""
        self._read()
        self.close()

    def close(self) -> None:
        """Take no more connections. The sender keeps those that are on their way."""
        self._endpoint.close()
        if self._held is not None:
            close_all(self._held.descriptors)
            self._held = None

    def _read(self) -> None:
        """Take what has arrived. The sender may be a worker that is out of its mind: then it is as if it had ended."""
        try:
            self._read_offers()
        except ProtocolError:
            self._end()

    def _read_offers(self) -> None:
        while self._endpoint.is_open:
            if self._held is None:
                try:
                    self._held = self._endpoint.receive()
                except BlockingIOError:
                    return
                except DescriptorsMissing as cut:
                    self._short()
                    self._decline(Offer.decode(cut.packet.data), Decline.NO_DESCRIPTOR)
                    continue
                except (OSError, ProtocolError):
                    self._held = None
                if self._held is None:
                    self._end()
                    return
            if not self._take(self._held):
                return

    def _take(self, packet: Packet) -> bool:
        """Acknowledge, then adopt. Returns False if the acknowledgement has to wait or the sender is gone.

        Raises ProtocolError if it is no offer of a connection.
        """
        offer, carried = _offered(packet)
        if not offer.anyway and not self._has_room():
            self._held = None
            close_all(packet.descriptors)
            self._decline(offer, Decline.FULL)
            return True
        try:
            self._endpoint.send(Answer(offer.number).encode())
        except BlockingIOError:
            self._endpoint.call_when_writable(self._resume)
            self._endpoint.pause_reading()
            return False
        except OSError:
            if not offer.given:
                # The sender has taken the connection back, or has died with its copy. In both cases it is not ours.
                self._end()
                return False
        self._held = None
        self._adopt(originals.socket(fileno=packet.descriptors[0]), carried)
        return True

    def _decline(self, offer: Offer, why: Decline) -> None:
        """Leave a connection to the sender, which still has it."""
        try:
            self._endpoint.send(Answer(offer.number, why).encode())
        except OSError:
            self._end()  # The sender then keeps this connection with all the others.

    def _end(self) -> None:
        self.close()
        self._on_end(self)

    def _resume(self) -> None:
        self._endpoint.resume_reading()
        self._read()


def _offered(packet: Packet) -> tuple[Offer, CarriedState]:
    """Return the offer in a packet, and the state of its connection. Raises ProtocolError if it is none."""
    offer = Offer.decode(packet.data)
    if len(packet.descriptors) != 1 or not stat.S_ISSOCK(os.fstat(packet.descriptors[0]).st_mode):
        raise ProtocolError("an offer without a connection")
    try:
        return offer, CarriedState.from_json(offer.carried)
    except ValueError as error:
        raise ProtocolError(str(error)) from error

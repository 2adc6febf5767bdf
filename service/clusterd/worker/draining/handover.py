"""Sender and receiver of connections that pass to another process over a socketpair (protocol: wire/passing.py)."""

import asyncio
import socket
from collections import deque
from collections.abc import Callable

from clusterd.http.engine import Connection
from clusterd.wire.connection_state import CarriedState
from clusterd.wire.messages import ProtocolError
from clusterd.wire.packets import DescriptorsMissing, Packet, close_all, receive, send
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
        sock.setblocking(False)
        self._socket = sock
        self._loop = loop
        self._on_moved = on_moved
        self._on_lost = on_lost
        self._number = 0
        self._unsent: deque[tuple[int, bytes]] = deque()
        self._unacknowledged: dict[int, Connection] = {}
        self._open = True
        self._is_declined = False
        loop.add_reader(sock.fileno(), self._read)

    def pass_on(self, connection: Connection) -> None:
        """Offer `connection`, which must be movable, to the successor."""
        self._number += 1
        carried = connection.detach()
        self._unacknowledged[self._number] = connection
        self._unsent.append((self._number, Offer(self._number, carried.to_json()).encode()))
        self._write()

    def close(self) -> list[Connection]:
        """Take back the connections that the successor has not acknowledged, and return them.

        Shuts down reading first. From then on the successor cannot acknowledge, so the acknowledgements that are in the
        queue are the last ones.
        """
        if not self._open:
            return []
        self._socket.shutdown(socket.SHUT_RD)
        self._read_acknowledgements()
        return self._end()

    def _write(self) -> None:
        while self._unsent:
            number, packet = self._unsent[0]
            try:
                send(self._socket, packet, [self._unacknowledged[number].fileno()])
            except BlockingIOError:
                self._loop.add_writer(self._socket.fileno(), self._write)
                return
            except OSError:
                # The successor is gone. The reader finds its last acknowledgements first, and then the end.
                break
            self._unsent.popleft()
        self._loop.remove_writer(self._socket.fileno())

    def _read(self) -> None:
        if not self._read_acknowledgements():
            # on_lost comes first: a connection that resumes here must not be offered to this sender again.
            self._on_lost()
            self.close()

    def _read_acknowledgements(self) -> bool:
        """Read all answers. Returns False if the successor has closed its end or has declined a connection.

        A successor that declines has no descriptors left, and is treated as lost. It may have acknowledged further
        connections after the one it declined, so everything is read.
        """
        while True:
            try:
                packet = receive(self._socket)
            except BlockingIOError:
                return not self._is_declined
            except (OSError, ProtocolError):
                return False
            if packet is None:
                return False
            answer = Answer.decode(packet.data)
            if answer.declined is not None:
                self._is_declined = True
                continue
            connection = self._unacknowledged.pop(answer.number)
            connection.release()
            self._on_moved()

    def _end(self) -> list[Connection]:
        if not self._open:
            return []  # A callback in _read_acknowledgements may have closed this sender.
        self._open = False
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self._unsent.clear()
        kept, self._unacknowledged = list(self._unacknowledged.values()), {}
        for connection in kept:
            connection.resume()
        return kept


class Receiver:
    """Takes over the connections that another process offers. Acknowledges each, and then passes it to `adopt`.

    If `has_room` returns False, it declines the offers that are not marked `anyway`.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        adopt: Callable[[socket.socket, CarriedState], None],
        on_end: Callable[["Receiver"], None],
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._loop = loop
        self._adopt = adopt
        self._on_end = on_end
        self._has_room = has_room
        self._held: Packet | None = None
        self._open = True
        loop.add_reader(sock.fileno(), self._read)

    def finish(self) -> None:
        """Take the connections that have arrived, and close."""
        self._read()
        self.close()

    def close(self) -> None:
        """Take no more connections. The sender keeps those that are on their way."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        if self._held is not None:
            close_all(self._held.descriptors)
            self._held = None

    def _read(self) -> None:
        while self._open:
            if self._held is None:
                try:
                    self._held = receive(self._socket)
                except BlockingIOError:
                    return
                except DescriptorsMissing as cut:
                    self._decline(Offer.decode(cut.data), Decline.NO_DESCRIPTOR)
                    continue
                except (OSError, ProtocolError):
                    self._held = None
                if self._held is None:
                    self._end()
                    return
            if not self._take(self._held):
                return

    def _take(self, packet: Packet) -> bool:
        """Acknowledge, then adopt. Returns False if the acknowledgement has to wait or the sender is gone."""
        offer = Offer.decode(packet.data)
        if not offer.anyway and not self._has_room():
            self._held = None
            close_all(packet.descriptors)
            self._decline(offer, Decline.FULL)
            return True
        try:
            send(self._socket, Answer(offer.number).encode())
        except BlockingIOError:
            self._loop.add_writer(self._socket.fileno(), self._resume)
            self._loop.remove_reader(self._socket.fileno())
            return False
        except OSError:
            # The sender has taken the connection back, or has died with its copy. In both cases it is not ours.
            self._end()
            return False
        self._held = None
        (descriptor,) = packet.descriptors
        self._adopt(socket.socket(fileno=descriptor), CarriedState.from_json(offer.carried))
        return True

    def _decline(self, offer: Offer, why: Decline) -> None:
        """Leave a connection to the sender, which still has it."""
        try:
            send(self._socket, Answer(offer.number, why).encode())
        except OSError:
            self._end()  # The sender then keeps this connection with all the others.

    def _end(self) -> None:
        self.close()
        self._on_end(self)

    def _resume(self) -> None:
        self._loop.remove_writer(self._socket.fileno())
        self._loop.add_reader(self._socket.fileno(), self._read)
        self._read()

"""The channel between the master and a child: messages, and the descriptors that come with them.

Packets that the peer cannot take yet wait in a bounded queue. A peer that lets the queue run full has stopped reading
and is treated as gone.
"""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence

from clusterd.records import dataclass
from clusterd.wire.endpoint import SeqpacketEndpoint
from clusterd.wire.messages import Message, ProtocolError, decode, encode
from clusterd.wire.packets import DescriptorsMissing, close_all

QUEUE_PACKETS = 1000
PACKETS_PER_TURN = 100
BYTES_PER_TURN = 256 * 1024
"""No more are read in one turn, because to read them takes the loop's time."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message with its descriptors. The descriptors belong to the receiver."""

    message: Message
    descriptors: tuple[int, ...]
    pid: int | None
    lacks_descriptors: bool = False
    """Whether descriptors came that this process may not open. They are closed."""


class Channel:
    """Sends and receives messages without ever blocking its loop.

    `on_message` is called for each message. It raises ProtocolError if it is none that the other side may send now.
    `on_end` is called once, with the reason, when the other end is closed or speaks another protocol. Neither is called
    after `close`.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        on_message: Callable[[Received], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._endpoint = SeqpacketEndpoint(sock, loop, self._read_some)
        self._on_message = on_message
        self._on_end = on_end
        self._queue: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._again: Callable[[], None] | None = None
        self._is_paused = False

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send `message` now, or when the peer reads. The descriptors still belong to the caller."""
        if not self._endpoint.is_open:
            return
        # A queued packet keeps copies of its descriptors until it is sent.
        packet = encode(message)
        if not self._queue and self._try_send(packet, descriptors):
            return
        if len(self._queue) >= QUEUE_PACKETS:
            self._end("the other side has stopped reading")
            return
        self._queue.append((packet, tuple(os.dup(descriptor) for descriptor in descriptors)))
        self._endpoint.call_when_writable(self._flush)

    def offer(self, packet: bytes, again: Callable[[], None]) -> bool:
        """Send a packet if the peer has room now. Otherwise return False, and call `again` when it may have room."""
        if not self._endpoint.is_open or (not self._queue and self._try_send(packet, ())):
            return True
        self._again = again
        self._endpoint.call_when_writable(self._flush)
        return False

    def _read_some(self) -> None:
        """Read a limited number of packets, so that other callbacks run. The loop calls again for the rest."""
        self._read(PACKETS_PER_TURN, BYTES_PER_TURN)

    def read_pending(self) -> None:
        """Receive all that has arrived until now. Called before a child's death is handled.

        What arrives meanwhile is left: a process that the dead one has forked may send without end.
        """
        if self._endpoint.is_open:
            arrived = self._endpoint.arrived_bytes()
            if arrived:
                self._read(arrived, arrived)

    def _read(self, most_packets: int, most_bytes: int) -> None:
        """Receive packets, until there are so many of them, or of their bytes, or none."""
        while self._endpoint.is_open and most_packets > 0 and most_bytes > 0:
            most_packets -= 1
            lacks_descriptors = False
            try:
                packet = self._endpoint.receive()
            except BlockingIOError:
                return
            except DescriptorsMissing as cut:
                packet, lacks_descriptors = cut.packet, True
            except (OSError, ProtocolError) as error:
                self._end(str(error))
                return
            if packet is None:
                self._end("closed")
                return
            most_bytes -= len(packet.data)
            try:
                message = decode(packet.data)
            except ProtocolError as error:
                close_all(packet.descriptors)
                self._end(str(error))
                return
            try:
                self._on_message(Received(message, packet.descriptors, packet.pid, lacks_descriptors))
            except ProtocolError as error:
                self._end(str(error))
                return

    def pause_reading(self) -> None:
        """Leave what arrives with the kernel, until `resume_reading`. A sender that fills its queue waits."""
        if self._endpoint.is_open and not self._is_paused:
            self._is_paused = True
            self._endpoint.pause_reading()

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""
        if self._endpoint.is_open and self._is_paused:
            self._is_paused = False
            self._endpoint.resume_reading()

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be sent."""
        return not self._queue and self._again is None

    def fileno(self) -> int:
        """The descriptor of this end."""
        return self._endpoint.fileno()

    def shut_down(self) -> None:
        """Have the other side see the end, also while another process has a duplicate of this end."""
        self._endpoint.shut_down()

    def close(self) -> None:
        """Close this end and drop what is queued."""
        self._endpoint.close()
        for _, descriptors in self._queue:
            close_all(descriptors)
        self._queue.clear()

    def _try_send(self, packet: bytes, descriptors: Sequence[int]) -> bool:
        """Return False if the packet has to wait. A dead peer counts as success, because reading reports its end."""
        try:
            self._endpoint.send(packet, descriptors)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def _flush(self) -> None:
        while self._queue:
            packet, descriptors = self._queue[0]
            if not self._try_send(packet, descriptors):
                self._endpoint.call_when_writable(self._flush)
                return
            self._queue.popleft()
            close_all(descriptors)
        again, self._again = self._again, None
        if again is not None:
            again()

    def _end(self, reason: str) -> None:
        self.close()
        self._on_end(reason)

"""The conversation between the application in a worker and its peer in the master: messages, requests and replies.

Both ends work alike. Nothing is dropped: a message waits at its sender until the channel takes it, and counts as
waiting until the other side has handled it. When MOST_WAITING messages wait, sending another one raises QueueFull.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import field
from time import monotonic, monotonic_ns
from typing import Any

from clusterd.records import dataclass
from clusterd.runtime import originals
from clusterd.runtime.hub import is_used
from clusterd.wire.channel import Channel
from clusterd.wire.messages import Ack, AppMessage, Message, decode, encode
from clusterd.wire.values import SAID, Bounds, encoded

MOST_WAITING = 1000
MOST_UNSENT = 2 * MOST_WAITING
"""When so many packets wait until the other side reads, nothing more is read of it: it could ask for replies without
end and read none."""
REQUEST_SECONDS = 30.0
"""How long a request waits for its reply, unless the caller gives another time."""
ERROR_CHARACTERS = 1000


class QueueFull(Exception):
    """Too many messages already wait. Try again later, or send fewer."""


class RequestFailed(Exception):
    """The other side has not answered a request: it has no handler, or the handler failed. The text says which."""


class Disconnected(ConnectionError):
    """The other side is gone. The last messages sent to it may not have reached it."""


class Reply:
    """The reply to a request. Async code awaits it; a thread waits for it with `result()`.

    Both raise RequestFailed, Disconnected or TimeoutError if there is no reply.
    """

    def __init__(self, future: "Future[Any]", receiver: int = 0) -> None:
        self._future = future
        self._receiver = receiver
        """The thread that receives the reply, as of originals.get_ident(); 0 if it is not known yet."""

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.wrap_future(self._future).__await__()

    def when_done(self, call: Callable[["Future[Any]"], object]) -> None:
        """Have `call` called with the future, in the thread that receives the reply. For clusterd itself."""
        self._future.add_done_callback(call)

    def result(self) -> Any:
        """Wait for the reply and return it. Raises RuntimeError in a thread that runs an event loop."""
        if self._receiver == originals.get_ident() or _runs_a_loop():
            raise RuntimeError("this thread runs an event loop, which result() would block: await the reply instead")
        return self._future.result()


def _runs_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Incoming:
    """A message of the other side. Any thread may handle it."""

    def __init__(self, conversation: "Conversation", message: AppMessage) -> None:
        self._conversation = conversation
        self._peer = conversation.peer
        self._number = message.request
        self._value = message.value

    @property
    def value(self) -> Any:
        """The value of the message."""
        return self._value

    @property
    def wants_reply(self) -> bool:
        """Whether the other side waits for a reply."""
        return self._number != 0

    def reply(self, value: Any) -> None:
        """Reply to the message, unless the other side is gone. Raises TypeError and ValueError as `send` does."""
        encoded(value, self._conversation.bounds)
        self._conversation.post(AppMessage(value, reply=self._number), self._peer)

    def refuse(self, why: str) -> None:
        """Reply that there is no answer, with the reason, unless the other side is gone."""
        self._conversation.post(AppMessage(None, reply=self._number, error=why[:ERROR_CHARACTERS]), self._peer)

    def taken(self) -> None:
        """Report that the message is handled, so that the other side may send another one."""
        self._conversation.count_taken(self._peer)


@dataclass(slots=True)
class _Pending:
    """A request without a reply yet."""

    deadline: float | None
    future: "Future[Any]" = field(default_factory=Future)
    timer: asyncio.TimerHandle | None = None


OnOver = Callable[[bool], None]


class Conversation:
    """One end. `send` and `request` may be called in any thread, also before `attach`; the others only on the loop."""

    def __init__(self, bounds: Bounds = SAID) -> None:
        self.bounds = bounds
        """The bounds of the values that this end sends."""
        self._lock = originals.Lock()
        self._packets: deque[bytes] = deque()
        """Packets that the channel has not taken yet."""
        self._unconfirmed: deque[OnOver | None] = deque()
        """For each message that the other side has not handled yet, the callback for its outcome."""
        self._taken = 0
        """Messages of the other side that were handled and not yet acknowledged."""
        self._pending: dict[int, _Pending] = {}
        self._last_request = monotonic_ns()
        """An earlier program of the master has used lower numbers. A reply to it may still come."""
        self.peer = 0
        """How many other sides there were before the one that is there now."""
        self._is_ended = False
        self._will_flush = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        """The thread of the loop. An application on it sees no running loop (http/hidden_loop.py)."""
        self._channel: Channel | None = None
        self._deliver: Callable[[Incoming], None] | None = None
        self._emptied: asyncio.Future[None] | None = None

    # ---- in any thread

    def send(self, value: Any, *, most_waiting: int | None = MOST_WAITING, on_over: OnOver | None = None) -> None:
        """Send a message. Raises TypeError and ValueError for a value that cannot be sent, QueueFull, Disconnected.

        `on_over` is called on the loop: with True when the other side has handled as many messages as were sent up to
        this one (this one itself, if it handles them in order), with False if the other side is gone before.
        """
        encoded(value, self.bounds)
        self._post_counted(AppMessage(value), most_waiting, on_over)

    def request(
        self,
        value: Any,
        timeout: float | None,
        *,
        most_waiting: int | None = MOST_WAITING,
        on_over: OnOver | None = None,
    ) -> Reply:
        """Send a request. Raises as `send` does. The reply fails with TimeoutError after `timeout` seconds."""
        encoded(value, self.bounds)
        pending = _Pending(None if timeout is None else monotonic() + timeout)
        with self._lock:
            self._last_request += 1
            number = self._last_request
            self._pending[number] = pending
        try:
            self._post_counted(AppMessage(value, request=number), most_waiting, on_over)
        except BaseException:
            self._pending.pop(number, None)
            raise
        return Reply(pending.future, self._thread)

    def post(self, message: Message, peer: int) -> None:
        """Send a checked reply to that other side, or drop it if that is gone: no request waits for it then.

        Replies are not counted, because there are no more of them than requests.
        """
        packet = encode(message)
        with self._lock:
            if not self._is_ended and peer == self.peer:
                self._enqueue(packet)

    def _post_counted(self, message: AppMessage, most_waiting: int | None, on_over: OnOver | None) -> None:
        packet = encode(message)
        with self._lock:
            if most_waiting is not None and len(self._unconfirmed) >= most_waiting and not self._is_ended:
                raise QueueFull(f"{len(self._unconfirmed)} messages wait for the other side already")
            self._enqueue(packet)
            self._unconfirmed.append(on_over)
            if message.request and self._loop is not None:
                # Under the lock: after the end the loop may be closed.
                self._loop.call_soon_threadsafe(self._arm, message.request)

    def _enqueue(self, packet: bytes) -> None:
        if self._is_ended:
            raise Disconnected("the other side is gone")
        self._packets.append(packet)
        self._wake()

    def count_taken(self, peer: int) -> None:
        """Count a handled message of that other side, to acknowledge it."""
        with self._lock:
            if peer != self.peer:
                return  # Its successor has never sent that message.
            self._taken += 1
            if not self._is_ended:  # after the end the loop may be closed
                self._wake()

    def _wake(self) -> None:
        if self._loop is not None and not self._will_flush:
            self._will_flush = True
            self._loop.call_soon_threadsafe(self._flush)

    # ---- on the loop

    def attach(self, channel: Channel, loop: asyncio.AbstractEventLoop, deliver: Callable[[Incoming], None]) -> None:
        """Use `channel` from now on. `deliver` is called with each message of the other side."""
        with self._lock:
            self._channel, self._loop, self._deliver = channel, loop, deliver
            self._thread = 0 if is_used() else originals.get_ident()  # With a hub, a native thread runs the loop.
            self._wake()
            asked = list(self._pending)
        for number in asked:
            self._arm(number)

    def received(self, message: AppMessage | Ack) -> None:
        """Handle a message from the channel."""
        if isinstance(message, Ack):
            with self._lock:
                dealt = [self._unconfirmed.popleft() for _ in range(min(message.count, len(self._unconfirmed)))]
            _conclude(dealt, True)
        elif message.reply:
            failure = RequestFailed(message.error) if message.error else None
            self._resolve(message.reply, message.value, failure)
        elif self._deliver is not None:
            self._deliver(Incoming(self, message))

    def end(self) -> None:
        """Handle the end of the other side: fail all requests and messages that wait."""
        with self._lock:
            self._is_ended = True
            self._packets.clear()
            waiting = list(self._unconfirmed)
            self._unconfirmed.clear()
            asked = list(self._pending)
        self._fail(asked, waiting)
        self._tell_emptied()

    def change_peer(self) -> None:
        """Go on with another process as the other side, over the same channel. It knows nothing of the one before.

        What is not written yet will reach it, also a request. All else counts as at the end of the other side: requests
        without a reply fail with Disconnected, and messages that are not acknowledged are reported as not handled. The
        new one may read some of them all the same. Its acknowledgements of those are then taken for later messages, so
        that a few more than MOST_WAITING may wait; its replies find no request.
        """
        with self._lock:
            if self._is_ended:
                return
            self.peer += 1
            self._taken = 0
            unsent = [(packet, decode(packet)) for packet in self._packets]
            # Replies and acknowledgements are for the one that is gone.
            ours = [(packet, said) for packet, said in unsent if isinstance(said, AppMessage) and not said.reply]
            self._packets.clear()
            self._packets.extend(packet for packet, _ in ours)
            waiting = [self._unconfirmed.popleft() for _ in range(len(self._unconfirmed) - len(ours))]
            kept = {said.request for _, said in ours}
            asked = [number for number in self._pending if number not in kept]
        self._fail(asked, waiting)

    async def flushed(self) -> None:
        """Wait until everything that was sent before has been written."""
        self._flush()
        if self._packets:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied

    @property
    def unsent(self) -> int:
        """The number of messages and replies that are not written yet."""
        return len(self._packets)

    @property
    def is_idle(self) -> bool:
        """Whether nothing of what this end has sent or received is under way."""
        return not (self._packets or self._unconfirmed or self._pending or self._taken)

    def _flush(self) -> None:
        with self._lock:
            self._will_flush = False
            if self._taken and not self._is_ended:
                # One acknowledgement covers all messages handled since the last one.
                self._packets.append(encode(Ack(self._taken)))
            self._taken = 0
        assert self._channel is not None
        # Only this loop and `end` remove packets, and both run on the event loop.
        while self._packets:
            if not self._channel.offer(self._packets[0], self._flush):
                if len(self._packets) > MOST_UNSENT:
                    self._channel.pause_reading()
                return
            self._packets.popleft()
        self._channel.resume_reading()
        self._tell_emptied()

    def _tell_emptied(self) -> None:
        if self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def _arm(self, number: int) -> None:
        pending = self._pending.get(number)
        if pending is not None and pending.deadline is not None and self._loop is not None:
            left = max(0.0, pending.deadline - monotonic())
            pending.timer = self._loop.call_later(left, self._expire, number)

    def _expire(self, number: int) -> None:
        self._resolve(number, None, TimeoutError("the other side has not answered in time"))

    def _fail(self, asked: list[int], waiting: list[OnOver | None]) -> None:
        for number in asked:
            self._resolve(number, None, Disconnected("the other side is gone, and has not answered"))
        _conclude(waiting, False)

    def _resolve(self, number: int, value: Any, failure: Exception | None) -> None:
        """Complete the request's future. If the caller has cancelled it, do nothing."""
        pending = self._pending.pop(number, None)
        if pending is None:
            return
        if pending.timer is not None:
            pending.timer.cancel()
        if not pending.future.set_running_or_notify_cancel():
            return
        if failure is None:
            pending.future.set_result(value)
        else:
            pending.future.set_exception(failure)


def _conclude(those: list[OnOver | None], is_dealt_with: bool) -> None:
    for on_over in those:
        if on_over is not None:
            on_over(is_dealt_with)

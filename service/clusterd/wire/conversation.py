"""What the application in a worker and whoever it talks to say to each other: messages, requests and replies.

Both ends are alike. Nothing is dropped: a message waits with its sender until the channel takes it, and is counted as
waiting until the other side has dealt with it. When MOST_WAITING wait, the next one is refused where it is sent.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from clusterd.wire.channel import Channel
from clusterd.wire.messages import Ack, AppMessage, Message, encode
from clusterd.wire.values import SAID, Bounds, encoded

MOST_WAITING = 1000
REQUEST_SECONDS = 30.0
"""How long a request waits for its reply, where the one who asks does not say."""
ERROR_CHARACTERS = 1000


class QueueFull(Exception):
    """So many messages wait already that another one is not taken: try again later, or send less."""


class RequestFailed(Exception):
    """The other side has not answered a request: it has no handler, or the handler failed; the text says which."""


class Disconnected(ConnectionError):
    """The other side is gone: what it was sent last may not have reached it."""


class Reply:
    """The answer to a request: `await` it in async code; in a thread `result()` waits for it.

    Either raises RequestFailed, Disconnected or TimeoutError where there is none.
    """

    def __init__(self, future: "Future[Any]") -> None:
        self._future = future

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.wrap_future(self._future).__await__()

    def when_done(self, call: Callable[["Future[Any]"], object]) -> None:
        """For clusterd itself: have `call` called with it, in the thread that brings the answer."""
        self._future.add_done_callback(call)

    def result(self) -> Any:
        """The answer, when it has come. Raises RuntimeError in a thread that runs an event loop."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError(
                "this thread runs an event loop, which would stand still meanwhile: await the reply instead"
            )
        return self._future.result()


class Incoming:
    """A message of the other side, for whoever deals with it, in whatever thread."""

    def __init__(self, conversation: "Conversation", message: AppMessage) -> None:
        self._conversation = conversation
        self._number = message.request
        self._value = message.value

    @property
    def value(self) -> Any:
        """What was said."""
        return self._value

    @property
    def wants_reply(self) -> bool:
        """Whether the other side awaits one."""
        return self._number != 0

    def reply(self, value: Any) -> None:
        """Answer it. Raises TypeError and ValueError as `send` does."""
        encoded(value, self._conversation.bounds)
        self._conversation.post(AppMessage(value, reply=self._number))

    def refuse(self, why: str) -> None:
        """Answer that there is no answer."""
        self._conversation.post(AppMessage(None, reply=self._number, error=why[:ERROR_CHARACTERS]))

    def taken(self) -> None:
        """It is dealt with, and another one may come in its place."""
        self._conversation.count_taken()


@dataclass(slots=True)
class _Pending:
    """A request that is not answered yet."""

    deadline: float | None
    future: "Future[Any]" = field(default_factory=Future)
    timer: asyncio.TimerHandle | None = None


OnOver = Callable[[bool], None]


class Conversation:
    """One end. `send` and `request` may be called in any thread, and before `attach`; the others on the loop."""

    def __init__(self, bounds: Bounds = SAID) -> None:
        self.bounds = bounds
        """Of what is said here."""
        self._lock = threading.Lock()
        self._packets: deque[bytes] = deque()
        """What the channel has not taken yet."""
        self._unconfirmed: deque[OnOver | None] = deque()
        """Of each message that the other side has not dealt with yet, who is told what became of it."""
        self._taken = 0
        """Messages of the other side that were dealt with, and it has not been told so."""
        self._pending: dict[int, _Pending] = {}
        self._last_request = 0
        self._is_ended = False
        self._will_flush = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._channel: Channel | None = None
        self._deliver: Callable[[Incoming], None] | None = None
        self._emptied: asyncio.Future[None] | None = None

    # ---- in any thread

    def send(self, value: Any, *, most_waiting: int | None = MOST_WAITING, on_over: OnOver | None = None) -> None:
        """Say something. Raises TypeError and ValueError for what cannot be said, QueueFull, Disconnected.

        `on_over` is called on the loop: with True when the other side has dealt with so many messages as there were
        with this one (with this one, where it deals with them in their order), with False when it is gone before.
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
        """Ask something; the same is raised. The reply fails with TimeoutError after so many seconds."""
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
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._arm, number)
        return Reply(pending.future)

    def post(self, message: Message) -> None:
        """Send what was looked at. Replies are not counted: there are no more of them than requests."""
        packet = encode(message)
        with self._lock:
            self._enqueue(packet)

    def _post_counted(self, message: Message, most_waiting: int | None, on_over: OnOver | None) -> None:
        packet = encode(message)
        with self._lock:
            if most_waiting is not None and len(self._unconfirmed) >= most_waiting and not self._is_ended:
                raise QueueFull(f"{len(self._unconfirmed)} messages wait for the other side already")
            self._enqueue(packet)
            self._unconfirmed.append(on_over)

    def _enqueue(self, packet: bytes) -> None:
        if self._is_ended:
            raise Disconnected("the other side is gone")
        self._packets.append(packet)
        self._wake()

    def count_taken(self) -> None:
        """One message more was dealt with."""
        with self._lock:
            self._taken += 1
            if not self._is_ended:  # then the loop may be closed as well
                self._wake()

    def _wake(self) -> None:
        if self._loop is not None and not self._will_flush:
            self._will_flush = True
            self._loop.call_soon_threadsafe(self._flush)

    # ---- on the loop

    def attach(self, channel: Channel, loop: asyncio.AbstractEventLoop, deliver: Callable[[Incoming], None]) -> None:
        """Talk over `channel` from now on; `deliver` is called with each message of the other side."""
        with self._lock:
            self._channel, self._loop, self._deliver = channel, loop, deliver
            self._wake()
            asked = list(self._pending)
        for number in asked:
            self._arm(number)

    def received(self, message: AppMessage | Ack) -> None:
        """The other side has said something."""
        if isinstance(message, Ack):
            with self._lock:
                dealt = [self._unconfirmed.popleft() for _ in range(min(message.count, len(self._unconfirmed)))]
            _tell(dealt, True)
        elif message.reply:
            failure = RequestFailed(message.error) if message.error else None
            self._resolve(message.reply, message.value, failure)
        elif self._deliver is not None:
            self._deliver(Incoming(self, message))

    def end(self) -> None:
        """The other side is gone."""
        with self._lock:
            self._is_ended = True
            self._packets.clear()
            waiting = list(self._unconfirmed)
            self._unconfirmed.clear()
            asked = list(self._pending)
        for number in asked:
            self._resolve(number, None, Disconnected("the other side is gone, and has not answered"))
        _tell(waiting, False)
        self._tell_emptied()

    async def flushed(self) -> None:
        """Everything that was said before has gone out."""
        self._flush()
        if self._packets:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied

    @property
    def unsent(self) -> int:
        """Messages and replies that have not gone out."""
        return len(self._packets)

    def _flush(self) -> None:
        with self._lock:
            self._will_flush = False
            if self._taken and not self._is_ended:
                # One for all that were dealt with since the last time.
                self._packets.append(encode(Ack(self._taken)))
            self._taken = 0
        assert self._channel is not None
        # Only here is anything taken out of the queue, and `end` is called on the loop as well.
        while self._packets:
            if not self._channel.offer(self._packets[0], self._flush):
                return
            self._packets.popleft()
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

    def _resolve(self, number: int, value: Any, failure: Exception | None) -> None:
        """Whoever asked may have lost interest: then nobody is told."""
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


def _tell(those: list[OnOver | None], is_dealt_with: bool) -> None:
    for on_over in those:
        if on_over is not None:
            on_over(is_dealt_with)

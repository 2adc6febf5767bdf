"""A worker as the program sees it."""

import signal as signals
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from clusterd.cluster.handlers import WORKER_EVENTS, Source
from clusterd.wire.conversation import Conversation, Reply
from clusterd.worker.api import REQUEST_SECONDS


@dataclass(slots=True)
class State:
    """What becomes of a worker; changed by the master's thread only."""

    pid: int | None = None
    is_connected: bool = True
    is_listening: bool = False
    is_dead: bool = False
    left_when_asked: bool | None = None


class Worker(Source):
    """One worker process, from the order to fork it on; still good to look at when it is dead.

    Everything may be called in any thread. `on` registers handlers for what happens to this worker alone: they are
    called as those of the cluster are, without the worker.
    """

    def __init__(
        self,
        slot: int,
        generation: int,
        state: State,
        conversation: Conversation,
        kill: Callable[[int], None],
        leave: Callable[[], None],
        debug: Callable[[], "Future[Any]"],
    ) -> None:
        super().__init__(WORKER_EVENTS)
        self.id = slot
        """Its slot, from 1 on. Whoever takes its place has the same."""
        self.generation = generation
        """Of its code: a reload makes the next one."""
        self._state = state
        self._conversation = conversation
        self._kill = kill
        self._leave = leave
        self._debug = debug

    def __repr__(self) -> str:
        return f"<worker {self.id}, generation {self.generation}, pid {self.pid}>"

    @property
    def pid(self) -> int | None:
        """None until it is online."""
        return self._state.pid

    @property
    def exited_after_disconnect(self) -> bool | None:
        """Whether it left because it was to, and did not die; None while it is there."""
        return self._state.left_when_asked

    def is_connected(self) -> bool:
        """Whether it is there and was not told to leave."""
        return self._state.is_connected

    def is_dead(self) -> bool:
        """Whether its process is gone."""
        return self._state.is_dead

    def send(self, value: Any) -> None:
        """Tell its `@worker.on("message")` any JSON value; before it is online too.

        Raises TypeError or ValueError for what is none or is too large, QueueFull when too many messages wait, and
        Disconnected when the worker is gone.
        """
        self._conversation.send(value)

    def request(self, value: Any, *, timeout: float | None = REQUEST_SECONDS) -> Reply:
        """Send any JSON value, as `send` does, and get the reply: `await` it, or in a thread call its `result()`.

        Either raises RequestFailed when the worker did not answer, and TimeoutError after `timeout` seconds.
        """
        return self._conversation.request(value, timeout)

    def kill(self, signal: int = signals.SIGTERM) -> None:
        """Send it a signal: at SIGTERM it drains and leaves, and counts as one that died unasked. The dead get none."""
        self._kill(signals.Signals(signal))

    def debug(self) -> Reply:
        """Have debugpy listen in it, on its own port (`debug={"port": ...}` and its slot); the reply is the address.

        `await` it, or call its `result()`: either raises RequestFailed with the reason where it does not listen. It
        does until the worker ends, which is not replaced for hanging any more.
        """
        return Reply(self._debug())

    def disconnect(self) -> None:
        """Have it drain and leave once a successor serves in its slot. One that is leaving goes on with that."""
        self._leave()

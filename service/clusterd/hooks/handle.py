"""A worker as the program sees it."""

from collections.abc import Callable
from concurrent.futures import Future
from signal import SIGTERM
from typing import Any, Protocol

from clusterd.hooks.handlers import WORKER_EVENTS, Source
from clusterd.wire.control import parse_signal
from clusterd.wire.conversation import REQUEST_SECONDS, Disconnected, QueueFull, Reply
from clusterd.wire.hooks import State
from clusterd.wire.values import encoded


class Talk(Protocol):
    """With the application in a worker: a `Conversation`, or what leads to one (`hooks/master_connection.py`)."""

    def send(self, value: Any) -> None:
        """Say something."""

    def request(self, value: Any, timeout: float | None) -> Reply:
        """Ask something."""


class Worker(Source):
    """One worker process, from the order to fork it on; still good to look at when it is dead.

    Everything may be called in any thread. `on` registers handlers for what happens to this worker alone: they are
    called as those of the cluster are, without the worker.
    """

    def __init__(
        self,
        slot: int,
        generation: int,
        talk: Talk,
        kill: Callable[[int], None],
        leave: Callable[[], None],
        debug: Callable[[], "Future[Any]"],
    ) -> None:
        super().__init__(WORKER_EVENTS)
        self.id = slot
        """Its slot, from 1 on. Whoever takes its place has the same."""
        self.generation = generation
        """Of its code: a reload makes the next one."""
        self.state = State()
        self._talk = talk
        self._kill = kill
        self._leave = leave
        self._debug = debug

    def become(self, state: State) -> None:
        """For clusterd itself: this is known of it now."""
        self.state = state

    def __repr__(self) -> str:
        return f"<worker {self.id}, generation {self.generation}, pid {self.pid}>"

    @property
    def pid(self) -> int | None:
        """None until it is online."""
        return self.state.pid

    @property
    def exited_after_disconnect(self) -> bool | None:
        """Whether it left because it was to, and did not die; None while it is there."""
        return self.state.left_when_asked

    def is_connected(self) -> bool:
        """Whether it is there and was not told to leave."""
        return self.state.is_connected

    def is_dead(self) -> bool:
        """Whether its process is gone."""
        return self.state.is_dead

    def send(self, value: Any) -> None:
        """Tell its `@worker.on("message")` any JSON value; before it is online too.

        Raises TypeError or ValueError for what is none or is too large, QueueFull when too many messages wait, and
        Disconnected when the worker is gone.
        """
        self._talk.send(value)

    def request(self, value: Any, *, timeout: float | None = REQUEST_SECONDS) -> Reply:
        """Send any JSON value, as `send` does, and get the reply: `await` it, or in a thread call its `result()`.

        Either raises RequestFailed when the worker did not answer, and TimeoutError after `timeout` seconds.
        """
        return self._talk.request(value, timeout)

    def kill(self, signal: int | str = SIGTERM) -> None:
        """Send it a signal, by name or number. Raises ValueError where there is none.

        At SIGTERM it drains and leaves, and is replaced at once. The dead get none.
        """
        self._kill(parse_signal(signal))

    def debug(self) -> Reply:
        """Have debugpy listen in it, on its own port (`debug={"port": ...}` and its slot); the reply is the address.

        `await` it, or call its `result()`: either raises RequestFailed with the reason where it does not listen. It
        does until the worker ends, which is not replaced for hanging any more.
        """
        return Reply(self._debug())

    def disconnect(self) -> None:
        """Have it drain and leave once a successor serves in its slot. One that is leaving goes on with that."""
        self._leave()


def broadcast(workers: dict[int, Worker], value: Any) -> int:
    """Send a value to every worker; to how many. Raises as `Cluster.broadcast`."""
    encoded(value)
    reached, full = 0, []
    for worker in workers.values():
        try:
            worker.send(value)
            reached += 1
        except QueueFull:
            full.append(str(worker.id))
        except Disconnected:
            pass
    if full:
        raise QueueFull(f"too many messages wait for worker {', '.join(full)}; {reached} others were sent this one")
    return reached

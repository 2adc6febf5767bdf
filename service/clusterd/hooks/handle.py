"""The handle of a worker, for the handlers of a hooks module or of a program with a `Cluster`."""

from collections.abc import Callable
from concurrent.futures import Future
from signal import SIGTERM
from typing import Any, Protocol

from clusterd.hooks.handlers import LEAVING, WORKER_EVENTS, Source
from clusterd.wire.control import parse_signal
from clusterd.wire.conversation import REQUEST_SECONDS, Disconnected, QueueFull, Reply
from clusterd.wire.hooks import State
from clusterd.wire.values import encoded


class Talk(Protocol):
    """A connection to the application in a worker: a `Conversation`, or `hooks.master_connection.Talk`."""

    def send(self, value: Any) -> None:
        """Send a message."""

    def request(self, value: Any, timeout: float | None) -> Reply:
        """Send a request. `timeout` is in seconds; None for no limit."""


class Worker(Source):
    """One worker process, from the decision to fork it on. The attributes can still be read after it has ended.

    Every method may be called in any thread. `on` registers handlers for the events of this worker only. They are
    called like those of the cluster, but without the argument `worker`.
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
        """The slot of the worker, counted from 1. Its successor has the same."""
        self.generation = generation
        """The generation of its code. A reload creates the next one."""
        self.state = State()
        self._talk = talk
        self._kill = kill
        self._leave = leave
        self._debug = debug

    def become(self, state: State) -> None:
        """Set the state. For clusterd itself only."""
        self.state = state

    def __repr__(self) -> str:
        return f"<worker {self.id}, generation {self.generation}, pid {self.pid}>"

    @property
    def pid(self) -> int | None:
        """The pid; None until the worker is online."""
        return self.state.pid

    @property
    def exited_after_disconnect(self) -> bool | None:
        """Whether the worker ended because it was asked to; None while it runs."""
        return self.state.left_when_asked

    @property
    def cause(self) -> str | None:
        """What the worker died of (docs/hooks.md); None while it runs, and if it left with nothing in hand."""
        return self.state.cause

    @property
    def lost(self) -> int:
        """How many requests died with the worker."""
        return self.state.lost

    @property
    def requests(self) -> tuple[dict[str, Any], ...]:
        """The requests that the worker had in hand when it died, the oldest first: at most 20."""
        return self.state.requests

    def is_connected(self) -> bool:
        """Whether the worker exists and was not told to drain."""
        return self.state.is_connected

    def is_dead(self) -> bool:
        """Whether the process of the worker has ended."""
        return self.state.is_dead

    def send(self, value: Any) -> None:
        """Send a JSON value to the `@worker.on("message")` handler of the worker. This works before it is online too.

        Raises TypeError or ValueError if the value is not JSON or is too large, QueueFull if too many messages wait,
        and Disconnected if the worker has ended.
        """
        self._talk.send(value)

    def request(self, value: Any, *, timeout: float | None = REQUEST_SECONDS) -> Reply:
        """Send a JSON value, as `send` does, and receive the reply: `await` it, or call its `result()` in a thread.

        Both raise RequestFailed if the worker has no handler or its handler fails, and TimeoutError after `timeout`
        seconds.
        """
        return self._talk.request(value, timeout)

    def kill(self, signal: int | str = SIGTERM) -> None:
        """Send a signal to the worker, by name or number. Raises ValueError if there is no such signal.

        At SIGTERM the worker drains and exits, and is replaced at once. A worker that has ended receives none.
        """
        self._kill(parse_signal(signal))

    def debug(self) -> Reply:
        """Start debugpy in the worker, on its own port: `debug={"port": ...}` plus its slot. The reply is the address.

        `await` the reply or call its `result()`. Both raise RequestFailed with the reason if debugpy does not listen.
        It listens until the worker ends. From then on the worker is not replaced for hanging any more.
        """
        return Reply(self._debug())

    def disconnect(self) -> None:
        """Have the worker drain and exit once a successor serves in its slot. A worker that drains is not affected."""
        self._leave()


def leaving_worker() -> Worker | None:
    """The worker for which a handler of `exit` or `disconnect` runs. None outside of such a handler."""
    worker = LEAVING.get()
    return worker if isinstance(worker, Worker) else None


def broadcast(workers: dict[int, Worker], value: Any) -> int:
    """Send a value to every worker. Returns the number reached. Raises the exceptions of `Cluster.broadcast`."""
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

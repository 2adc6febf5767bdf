"""The handlers of a program or hooks module, and the thread that calls them. No event loop waits for a handler."""

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from clusterd.app import answers
from clusterd.app.signatures import check_handler, name_of
from clusterd.linux.early_signals import let_signals_through
from clusterd.log import Logger
from clusterd.records import dataclass
from clusterd.runtime import originals
from clusterd.runtime.threads import begin_natively
from clusterd.wire.hooks import DISCONNECT, EXIT, FORK, MESSAGE, SETUP

WORKER_EVENTS: dict[str, tuple[str, ...]] = {
    "online": (),
    "listening": ("addresses",),
    MESSAGE: ("message",),
    DISCONNECT: (),
    EXIT: ("code", "signal"),
}
"""The events of a worker, each with the arguments of its handlers."""
CLUSTER_EVENTS: dict[str, tuple[str, ...]] = {
    SETUP: ("settings",),
    FORK: ("worker",),
    **{event: ("worker", *given) for event, given in WORKER_EVENTS.items()},
}

MOST_WAITING = 1000
"""The most events that wait. Messages do not count: each worker has its own limit, beyond which its `send` raises."""

NOT_YET = "the cluster does not run yet: do this in a handler, or in a thread beside cluster.run()"
THREAD_NAME = "clusterd-handlers"

Handler = Callable[..., Any]
_AnyHandler = TypeVar("_AnyHandler", bound=Handler)


class Registry:
    """The registered handlers, by event."""

    def __init__(self, events: Mapping[str, tuple[str, ...]]) -> None:
        self._events = events
        self._handlers: dict[str, list[Handler]] = {event: [] for event in events}

    def on(self, event: str) -> Callable[[_AnyHandler], _AnyHandler]:
        """Register the decorated function, plain or async.

        Raises ValueError if the event does not exist, and TypeError if the function cannot take the event's arguments.
        """
        if event not in self._events:
            there_are = f"there are {', '.join(self._events)}"
            if callable(event):
                raise TypeError(f'on is called with the name of an event, as in @cluster.on("exit"); {there_are}')
            raise ValueError(f"there is no event {event!r}; {there_are}")

        def register(handler: _AnyHandler) -> _AnyHandler:
            check_handler(handler, event, self._events[event])
            self._handlers[event].append(handler)
            return handler

        return register

    def of(self, event: str) -> tuple[Handler, ...]:
        """The handlers of `event`, in the order of their registration."""
        return tuple(self._handlers.get(event, ()))

    @property
    def is_empty(self) -> bool:
        """Whether no handler is registered."""
        return not any(self._handlers.values())


class Source(Registry):
    """The part of a worker that concerns handlers: it has its own, beside those of the cluster."""

    id: int


LEAVING: contextvars.ContextVar[Source | None] = contextvars.ContextVar("clusterd_leaving", default=None)
"""The worker that a handler of `exit` or `disconnect` is called for, also in the tasks that the handler begins."""


class IncomingMessage(answers.Asked, Protocol):
    """A message of a worker: an `Incoming`, or one that the master has relayed (hooks/process.py)."""

    @property
    def value(self) -> Any:
        """The message."""

    @property
    def wants_reply(self) -> bool:
        """Whether the worker waits for a reply."""

    def taken(self) -> None:
        """Report that the message was handled."""


@dataclass(frozen=True, slots=True)
class _Occurrence:
    """An event or a message that waits for its handlers.

    The handlers are looked up when its turn comes, because a handler of `fork` may register some.
    """

    event: str
    worker: Source | None
    arguments: tuple[Any, ...]
    incoming: IncomingMessage | None = None
    taken: Callable[[], None] | None = None


class Handlers:
    """Calls the handlers one after the other. `post` and `post_message` never block and may be called in any thread."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._queue: SimpleQueue[_Occurrence | None] = originals.SimpleQueue()
        self._lock = originals.Lock()
        self._waiting = 0
        self._has_ended: Callable[[float], bool] = lambda _: True
        self._log: Logger | None = None
        self._runner: asyncio.Runner | None = None
        self._context = contextvars.Context()
        """The context of async handlers."""
        self._lack_is_known = False
        """Whether the log already says that no handler takes messages."""
        self.dropped = 0
        """The number of events that were dropped because the queue was full."""

    def post(self, event: str, worker: Source | None, *arguments: Any, taken: Callable[[], None] | None = None) -> None:
        """Queue an event for its handlers. If too many events wait, it is dropped, counted and logged.

        `taken` is called after the handlers.
        """
        with self._lock:
            is_full = self._waiting >= MOST_WAITING
            if is_full:
                self.dropped += 1
            else:
                self._waiting += 1
        if not is_full:
            self._queue.put(_Occurrence(event, worker, arguments, taken=taken))
        elif self._log is not None:
            slot = {} if worker is None else {"slot": worker.id}
            text = f"{MOST_WAITING} events wait for their handlers: an event was dropped"
            self._log.error(text, event=event, dropped=self.dropped, **slot)

    def post_message(self, worker: Source, incoming: IncomingMessage) -> None:
        """Queue a message for its handlers. If a reply is wanted, the value that the first handler returns is sent."""
        self._queue.put(_Occurrence(MESSAGE, worker, (incoming.value,), incoming, incoming.taken))

    def start(self, log: Logger) -> None:
        """Start the thread. It begins with the events posted so far. Signal handlers must be installed before."""
        self._log = log
        self._has_ended = begin_natively(partial(self._call_all, log), THREAD_NAME)

    def finish(self, seconds: float) -> bool:
        """Wait up to `seconds` until every queued event is handled. Returns whether that is so."""
        self._queue.put(None)
        return self._has_ended(seconds)

    # ---- in the thread

    def _call_all(self, log: Logger) -> None:
        # This thread inherits the signal mask of the main thread, which blocks signals until their handlers are
        # installed. Processes that handlers start must not inherit blocked signals.
        let_signals_through()
        try:
            while (occurrence := self._queue.get()) is not None:
                self._deal_with(occurrence, log)
        finally:
            if self._runner is not None:
                self._runner.close()

    def _deal_with(self, occurrence: _Occurrence, log: Logger) -> None:
        incoming = occurrence.incoming
        if incoming is None:
            with self._lock:
                self._waiting -= 1
        LEAVING.set(occurrence.worker if occurrence.event in (EXIT, DISCONNECT) else None)
        calls = list(self._calls(occurrence))
        for number, (handler, arguments) in enumerate(calls):
            asked = incoming if number == 0 and incoming is not None and incoming.wants_reply else None
            self._call(occurrence.event, handler, arguments, asked, log)
        if incoming is not None and not calls:
            self._say_that_there_is_none(incoming, log)
        if occurrence.taken is not None:
            occurrence.taken()

    def _calls(self, occurrence: _Occurrence) -> Iterator[tuple[Handler, tuple[Any, ...]]]:
        worker = occurrence.worker
        who = () if worker is None else (worker,)
        for handler in self._registry.of(occurrence.event):
            yield handler, (*who, *occurrence.arguments)
        if worker is not None:
            for handler in worker.of(occurrence.event):
                yield handler, occurrence.arguments

    def _call(
        self, event: str, handler: Handler, arguments: tuple[Any, ...], asked: IncomingMessage | None, log: Logger
    ) -> None:
        what = f"the handler {name_of(handler)} of {event!r}"
        try:
            value = handler(*arguments)
            if inspect.iscoroutine(value):
                value = self._run(value)
        except BaseException as error:  # Includes sys.exit(), which would end only this thread.
            answers.failed(asked, error, what, log)
            return
        if asked is not None:
            answers.reply(asked, value, what, log)

    def _run(self, coroutine: Any) -> Any:
        # All async handlers share one event loop, so that a handler can use what an earlier one has opened.
        if self._runner is None:
            self._runner = asyncio.Runner()
            self._context = contextvars.copy_context()
        self._context.run(LEAVING.set, LEAVING.get())
        return self._runner.run(coroutine, context=self._context)

    def _say_that_there_is_none(self, incoming: IncomingMessage, log: Logger) -> None:
        if incoming.wants_reply:
            incoming.refuse('the program has no handler: it registers one with @cluster.on("message")')
        elif not self._lack_is_known:
            self._lack_is_known = True
            log.warning('a message came, and the program has no handler: @cluster.on("message") registers one')

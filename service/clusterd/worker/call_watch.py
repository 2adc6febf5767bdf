"""Records the requests that the application is handling, while the master asks for it.

The master asks for it for a minute after a worker has died, to find suspects. At all other times the worker calls the
application directly, and the watch costs nothing: it reads the scoreboard at every tick, not for every request.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any
from urllib.parse import quote

from clusterd.app.application import LoadedApplication
from clusterd.http.engine import Engine
from clusterd.http.settings import Interface
from clusterd.http.wsgi.file_wrapper import FileWrapper
from clusterd.metrics.shared.in_hand import InHand
from clusterd.metrics.shared.scoreboard import Scoreboard

_UNQUOTED = "/:@!$&'()*+,;=~"
"""Characters that a path may contain unquoted, beside letters, digits and `_.-` (RFC 3986 section 3.3)."""


class CallWatch:
    """Wraps the application while the watch is on, and unwraps it afterwards."""

    def __init__(self, loaded: LoadedApplication, engine: Engine, scoreboard: Scoreboard, row: int) -> None:
        self._application = loaded.application
        self._watched: Callable[..., Any]
        in_hand = scoreboard.in_hand(row)
        if loaded.interface is Interface.ASGI:
            self._watched = _WatchedAsgi(loaded.application, in_hand)
        else:
            self._watched = _WatchedWsgi(loaded.application, in_hand)
        self._engine = engine
        self._scoreboard = scoreboard
        self._is_on = False

    def tick(self, now: int) -> None:
        """Turn the watch on or off, as the scoreboard says; `now` is in monotonic nanoseconds."""
        is_wanted = now < self._scoreboard.watched_until
        if is_wanted is not self._is_on:
            self._is_on = is_wanted
            self._engine.adapter.use(self._watched if is_wanted else self._application)


class _WatchedWsgi:
    """Wraps a WSGI application."""

    def __init__(self, application: Callable[..., Iterable[bytes]], in_hand: InHand) -> None:
        self._application = application
        self._in_hand = in_hand

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = quote(environ["SCRIPT_NAME"] + environ["PATH_INFO"], _UNQUOTED, "latin-1")
        place = self._in_hand.begin(f"{environ['REQUEST_METHOD']} {path}")
        try:
            result = self._application(environ, start_response)
        except BaseException:
            self._in_hand.end(*place)
            raise
        if isinstance(result, (list, tuple, FileWrapper)):  # No code of the application runs while this is sent.
            self._in_hand.end(*place)
            return result
        return _Body(result, lambda: self._in_hand.end(*place))


class _Body:
    """A body that the application generates while the response is sent."""

    def __init__(self, pieces: Iterable[bytes], end: Callable[[], None]) -> None:
        self._pieces = pieces
        self._end = end

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def close(self) -> None:
        """Close the body, and end the record. The server always calls this (PEP 3333)."""
        try:
            close = getattr(self._pieces, "close", None)
            if close is not None:
                close()
        finally:
            self._end()


class _WatchedAsgi:
    """Wraps an ASGI application. Does not record WebSockets: one that is open for days is open at every death."""

    def __init__(self, application: Callable[..., Awaitable[None]], in_hand: InHand) -> None:
        self._application = application
        self._in_hand = in_hand

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        place = self._in_hand.begin(f"{scope['method']} {quote(scope['raw_path'], _UNQUOTED + '%')}")
        try:
            await self._application(scope, receive, send)
        finally:
            self._in_hand.end(*place)

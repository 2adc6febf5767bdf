"""The interfaces that the engine's owner implements: counters and a log."""

from collections.abc import Mapping
from typing import Literal, Protocol

from clusterd.log.record import Level

RefusedFor = Literal["queue_full", "queue_timeout", "connections", "bad_request", "limits", "tls"]
"""Why the application never sees a request or connection.

The limit of the queue, or timeouts.queue; the limit of connections; malformed HTTP; a request above one of `limits`;
plain HTTP where TLS is expected.
"""

TimedOut = Literal["drain", "drain_idle", "request", "queue", "keepalive", "header", "body", "write"]
"""The setting of `timeouts` that has ended a request or connection."""


class Counters(Protocol):
    """Counts requests. Called only on the loop's thread. The first four are called for each request: must be cheap."""

    def request_begun(self) -> None:
        """Count a request whose head has arrived. Either `request_done` or `request_dropped` follows."""

    def request_done(self, status: int, seconds: float, waited: float) -> None:
        """Count a response. `seconds` begins at the end of the request's head.

        `waited` is how long the request could have been given to the application before that began; -1 if it did not.
        """

    def request_dropped(self) -> None:
        """Count a request that has ended without a response."""

    def jobs_changed(self, count: int) -> None:
        """Record the number of calls that threads or greenlets run or that wait for one."""

    def request_refused(self, reason: RefusedFor, status: int) -> None:
        """Count a refused request or connection. `status` is that of its response; 0 if it gets none, or later."""

    def refusal_sent(self, status: int) -> None:
        """Count the response to a connection that was refused before, with the status 0."""

    def timed_out(self, kind: TimedOut) -> None:
        """Count what a timeout has ended, in addition to `request_done` if it was answered."""

    def client_aborted(self) -> None:
        """Count a request whose client has left before the response was complete."""

    def handshake_failed(self) -> None:
        """Count a TLS handshake that has failed."""

    def connections_changed(self, count: int) -> None:
        """Record the number of open connections."""

    def websockets_changed(self, count: int) -> None:
        """Record the number of open WebSockets."""


class Log(Protocol):
    """The engine's log. Called only on the loop's thread. A message may have several lines."""

    def error(self, message: str, /, **fields: object) -> None:
        """Log an error in the application or the server."""

    def warning(self, message: str, /, **fields: object) -> None:
        """Log a condition that the server handles, and what the operator can do about it."""

    def request(self, level: Level, message: str, alike: str, fields: Mapping[str, object] | None = None) -> None:
        """Log a request (the access log). Without `fields` the message is a whole line of another format.

        Of records with equal `alike` only some are written in a second, unless it is empty.
        """

    def debug(self, message: str, /, **fields: object) -> None:
        """Log a detail that helps to diagnose a fault."""

    @property
    def is_debugging(self) -> bool:
        """Whether `debug` writes anything. Check this before computing a message for each connection."""

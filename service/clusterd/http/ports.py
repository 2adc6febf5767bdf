"""The interfaces that the engine's owner implements: counters and a log."""

from typing import Protocol


class Counters(Protocol):
    """Counts requests. Called only on the loop's thread, once for each response, so it must be cheap."""

    def request_done(self, status: int, seconds: float) -> None:
        """Count a response. `seconds` begins at the end of the request's head. Refusals by the engine count too."""

    def request_timed_out(self) -> None:
        """Count a request that a timeout has ended, in addition to `request_done` if it was answered."""

    def connections_changed(self, count: int) -> None:
        """Record the number of open connections."""


class Log(Protocol):
    """The engine's log. Called only on the loop's thread. A message may have several lines."""

    def error(self, message: str, /, **fields: object) -> None:
        """Log an error in the application or the server."""

    def warning(self, message: str, /, **fields: object) -> None:
        """Log a condition that the server handles, and what the operator can do about it."""

    def info(self, message: str, /, **fields: object) -> None:
        """Log a request (the access log)."""

    def debug(self, message: str, /, **fields: object) -> None:
        """Log a detail that helps to diagnose a fault."""

    @property
    def is_debugging(self) -> bool:
        """Whether `debug` writes anything. Check this before computing a message for each connection."""

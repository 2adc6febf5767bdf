"""What the engine is given by its surroundings: a place to count and a place to log."""

from typing import Protocol


class Counters(Protocol):
    """Where requests are counted. Called on the loop's thread only, once per response: keep it cheap."""

    def request_done(self, status: int, seconds: float) -> None:
        """Count a response, from the end of its request's head; refusals made here count too."""

    def request_timed_out(self) -> None:
        """Count a request ended by one of the timeouts (beside `request_done`, if it was answered)."""

    def connections_changed(self, count: int) -> None:
        """Learn how many connections are open."""


class Log(Protocol):
    """Where the engine reports. Called on the loop's thread only; a message may have several lines."""

    def error(self, message: str, /, **fields: object) -> None:
        """Report something that is wrong here: in the application or in the server."""

    def warning(self, message: str, /, **fields: object) -> None:
        """Report what is dealt with, and what the operator can do about it."""

    def info(self, message: str, /, **fields: object) -> None:
        """Report a request (the access log)."""

    def debug(self, message: str, /, **fields: object) -> None:
        """Report what only somebody who looks for a fault wants to know."""

    @property
    def is_debugging(self) -> bool:
        """Whether `debug` is written: ask before computing what is told for each connection."""

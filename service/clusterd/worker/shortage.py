"""Tells the operator that the system gives a worker no more of what it needs to serve."""

import errno
import os
from time import monotonic

from clusterd.log import Logger
from clusterd.process.refused import why_refused

SAY_EVERY_SECONDS = 60.0
"""A worker that lacks something tries again many times a second."""

_ADVICE = {
    errno.EMFILE: "there are no descriptors left for connections: raise LimitNOFILE= of the unit",
    errno.ENFILE: "this machine has no descriptors left for connections: raise fs.file-max (sysctl)",
}


class Shortage:
    """Writes one line of each kind in SAY_EVERY_SECONDS, however often it is lacked."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._said_at: dict[str, float] = {}

    def of_descriptors(self, number: int = errno.EMFILE) -> None:
        """A connection could not be taken, for this reason (errno(3)). It stays where it is: in a backlog, or with its
        sender.
        """
        self._say("descriptors", _ADVICE.get(number, f"no connection can be accepted: {os.strerror(number)}"))

    def of_threads(self, usable: int, count: int) -> None:
        """There are only so many of the `count` threads that are to call the application."""
        self._say("threads", f"{usable} of {count} threads call the application, as no more start: {why_refused()}")

    def _say(self, kind: str, line: str) -> None:
        now = monotonic()
        before = self._said_at.get(kind)
        if before is None or now - before >= SAY_EVERY_SECONDS:
            self._said_at[kind] = now
            self._log.warning(line)

"""Decides which requests are logged, and writes their records."""

from math import inf
from typing import Final

from clusterd.config.settings.access_format import AS_FIELDS
from clusterd.http.access.answered import Answered
from clusterd.http.access.lines import Line, compile_lines
from clusterd.http.access.sending import CUT_AFTER
from clusterd.http.ports import Log
from clusterd.http.settings import AccessLog as Mode
from clusterd.http.settings import HttpSettings
from clusterd.log.record import UNLIMITED, Level

_LOGGED_FROM: Final = {Mode.ALL: 0, Mode.SLOW: 500, Mode.ERRORS: 500, Mode.OFF: 1000}
"""The lowest status that is logged."""
_ERRORS_FROM: Final = 500
_MESSAGE: Final = "request"

SLOW_SECONDS: Final = 1.0
"""What is slow for the mode `slow` if `log.slow` is off."""


class AccessLog:
    """The access log of one engine. Its mode may change at any time."""

    def __init__(self, settings: HttpSettings, log: Log) -> None:
        self._log = log
        self._slow = SLOW_SECONDS if settings.slow is None else settings.slow
        written = settings.access_format
        self._line: Line | None = None if written == AS_FIELDS else compile_lines(written, settings.worker)
        self.is_on = False
        """Whether anything is logged, so that connections have to count what they send."""
        self.status = 1000
        """The lowest status that is logged."""
        self.seconds = inf
        """The shortest duration that is logged whatever the status."""
        self._is_complete = False
        self.change(settings.access_log)

    def change(self, mode: Mode) -> None:
        """Log what `mode` says from now on."""
        self.is_on = mode is not Mode.OFF
        self.status = _LOGGED_FROM[mode]
        self.seconds = self._slow if mode is Mode.SLOW else inf
        self._is_complete = mode is Mode.ALL

    def write(self, answered: Answered) -> None:
        """Write the record of a request. It is not limited as equal ones are if all requests are to be logged."""
        level = Level.ERROR if answered.status >= _ERRORS_FROM else Level.INFO
        alike = UNLIMITED if self._is_complete else f"{answered.status} {answered.reason.partition(CUT_AFTER)[0]}"
        if self._line is not None:
            self._log.request(level, self._line(answered), alike)
        else:
            self._log.request(level, _MESSAGE, alike, fields_of(answered))


def fields_of(answered: Answered) -> dict[str, object]:
    """Return the fields of a record. Those that are None are left out."""
    return {
        "method": answered.method or None,
        "target": answered.target,
        "status": answered.status,
        "bytes": answered.bytes,
        "duration": answered.duration,
        "queue": answered.queue if answered.queue >= 0 else None,
        "peer": answered.peer or None,
        "request_id": answered.request_id or None,
        "reason": answered.reason or None,
    }

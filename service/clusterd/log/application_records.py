"""The records of the application's own `logging` in the journal: with their levels, and a traceback in one entry.

A `StreamHandler` writes text to standard output or error, which journald takes for lines of priority info. So in
processes whose output is the journal, handlers that would write there send their text as an entry. A handler with
another stream, and one with an `emit` of its own, do what they always do.
"""

import logging
from collections.abc import Callable
from typing import TextIO

from clusterd.log.current_request import REQUEST_ID
from clusterd.log.journal import JournalWriter, entry
from clusterd.log.record import escaped

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (25, 5), (logging.INFO, 6))
"""The priority of each level and those above it. Libraries that have a level NOTICE or SUCCESS give it 25."""
_DEBUG = 7

_about: dict[str, object] = {}


def describe_process(**fields: object) -> None:
    """Have the entries of this process say this of it."""
    _about.update(fields)


def send_records(writer: JournalWriter, is_journal: Callable[[object], bool]) -> None:
    """Send the records of handlers whose stream `is_journal` through `writer` from now on."""
    write = logging.StreamHandler.emit

    def emit(self: "logging.StreamHandler[TextIO]", record: logging.LogRecord) -> None:
        if not is_journal(self.stream):
            write(self, record)
            return
        try:
            payload = _entry_of(record, self.format(record))
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)
            return
        if not writer.send(payload):
            write(self, record)  # The stream keeps what journald does not take now.

    logging.StreamHandler.emit = emit  # type: ignore[assignment,method-assign]


def _entry_of(record: logging.LogRecord, text: str) -> bytes:
    priority = next((priority for level, priority in _PRIORITIES if record.levelno >= level), _DEBUG)
    fields = {
        "LOGGER": record.name,
        "CODE_FILE": record.pathname,
        "CODE_LINE": record.lineno,
        "CODE_FUNC": record.funcName,
        "CLUSTERD_REQUEST_ID": REQUEST_ID.get(),
        **{f"CLUSTERD_{name.upper()}": value for name, value in _about.items()},
    }
    return entry("\n".join(map(escaped, text.splitlines())), priority, fields)

"""What the rest of clusterd logs with."""

import traceback
from collections.abc import Mapping
from typing import Self

from clusterd.log.record import Level, Record
from clusterd.log.sink import Sink


class _Threshold:
    """The level of a family of loggers, shared so that a reload changes all of them at once."""

    __slots__ = ("level",)

    def __init__(self, level: Level) -> None:
        self.level = level


class Logger:
    """Writes records to a sink, each with the fields bound to the logger: who speaks, and about whom.

    Safe to use from threads and after a fork. Never blocks and never raises for what it is given to log.
    """

    __slots__ = ("_fields", "_sink", "_threshold")

    def __init__(self, sink: Sink, level: Level = Level.INFO, fields: Mapping[str, object] | None = None) -> None:
        self._sink = sink
        self._threshold = _Threshold(level)
        self._fields = dict(fields or {})

    def bind(self, **fields: object) -> Self:
        """A logger that adds these fields to every record; it shares the sink and the level."""
        bound = object.__new__(type(self))
        bound._sink, bound._threshold, bound._fields = self._sink, self._threshold, {**self._fields, **fields}
        return bound

    @property
    def level(self) -> Level:
        """The least severe level that is written."""
        return self._threshold.level

    def set_level(self, level: Level) -> None:
        """Let only this level and worse through, for this logger and all bound from the same one."""
        self._threshold.level = level

    @property
    def is_debugging(self) -> bool:
        """Whether `debug` would be written; ask before computing something costly."""
        return self._threshold.level >= Level.DEBUG

    def flush(self) -> None:
        """Try again to write what the sink could not take; call it from a timer and before exiting."""
        self._sink.flush()

    def log(self, level: Level, message: str, /, **fields: object) -> None:
        """Write one record."""
        if level <= self._threshold.level:
            self._sink.write(Record(level, message, {**self._fields, **fields}))

    def debug(self, message: str, /, **fields: object) -> None:
        """What only a developer of clusterd wants to see."""
        self.log(Level.DEBUG, message, **fields)

    def info(self, message: str, /, **fields: object) -> None:
        """What happens in normal operation."""
        self.log(Level.INFO, message, **fields)

    def notice(self, message: str, /, **fields: object) -> None:
        """What an operator caused or wants to know: a start, a reload, a stop."""
        self.log(Level.NOTICE, message, **fields)

    def warning(self, message: str, /, **fields: object) -> None:
        """What went wrong and was dealt with."""
        self.log(Level.WARNING, message, **fields)

    def error(self, message: str, /, **fields: object) -> None:
        """What somebody has to look at."""
        self.log(Level.ERROR, message, **fields)

    def exception(self, message: str, error: BaseException, /, **fields: object) -> None:
        """An error with its traceback, one record a line."""
        self.log(Level.ERROR, f"{message}\n{''.join(traceback.format_exception(error))}", **fields)

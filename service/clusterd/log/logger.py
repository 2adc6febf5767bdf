"""The logger that the rest of clusterd uses."""

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
    """Writes records to a sink. Each record has the fields bound to the logger, which say which process logs about
    what.

    It is safe to use from threads and after a fork. It never blocks, and raises for nothing that it is given to log.
    """

    __slots__ = ("_fields", "_sink", "_threshold")

    def __init__(self, sink: Sink, level: Level = Level.INFO, fields: Mapping[str, object] | None = None) -> None:
        self._sink = sink
        self._threshold = _Threshold(level)
        self._fields = dict(fields or {})

    def bind(self, **fields: object) -> Self:
        """Return a logger that adds these fields to every record. It shares the sink and the level."""
        bound = object.__new__(type(self))
        bound._sink, bound._threshold, bound._fields = self._sink, self._threshold, {**self._fields, **fields}
        return bound

    @property
    def level(self) -> Level:
        """The least severe level that is written."""
        return self._threshold.level

    def set_level(self, level: Level) -> None:
        """Log only this level and worse, for this logger and all loggers bound from the same one."""
        self._threshold.level = level

    @property
    def is_debugging(self) -> bool:
        """Whether `debug` would write. Check it before an expensive computation."""
        return self._threshold.level >= Level.DEBUG

    @property
    def lost(self) -> int:
        """How many records of this process were dropped, because their destination did not accept them."""
        return self._sink.lost_in_all

    def resume(self, lost: int) -> None:
        """Count on from what an earlier program of this process has dropped."""
        self._sink.resume(lost)

    @property
    def left_out(self) -> int:
        """How many records of this process were left out, because there were too many equal ones."""
        return self._sink.left_out

    def shape(self, *, as_json: bool, repeats: int) -> None:
        """Set the format of the process's log, and how many equal records it writes in a second (0: all)."""
        self._sink.use_json(as_json)
        self._sink.limit_repeats(repeats)

    def flush(self) -> None:
        """Try again to write what the sink could not write. Call it from a timer."""
        self._sink.flush()

    def finish(self) -> None:
        """Write what is left to be written. To be called before the process ends."""
        self._sink.finish()

    def log(self, level: Level, message: str, /, **fields: object) -> None:
        """Write one record."""
        if level <= self._threshold.level:
            self._sink.write(Record(level, message, {**self._fields, **fields}))

    def of(self, what: object, level: Level, message: str, /, **fields: object) -> None:
        """Write one record of `what`, a worker for example. Only records of the same one are equal (log/repeats.py)."""
        if level <= self._threshold.level:
            self._sink.write(Record(level, message, {**self._fields, **fields}, f"{message} ({what})"))

    def request(self, level: Level, message: str, alike: str, fields: Mapping[str, object] | None = None) -> None:
        """Write a record of the access log. `alike` is as in `Record`. Without `fields` the message is a whole line."""
        if level <= self._threshold.level:
            if fields is None:
                self._sink.write(Record(level, message, self._fields, alike, is_bare=True))
            else:
                self._sink.write(Record(level, message, {**self._fields, **fields}, alike))

    def debug(self, message: str, /, **fields: object) -> None:
        """Log what only a developer of clusterd needs."""
        self.log(Level.DEBUG, message, **fields)

    def info(self, message: str, /, **fields: object) -> None:
        """Log what happens in normal operation."""
        self.log(Level.INFO, message, **fields)

    def notice(self, message: str, /, **fields: object) -> None:
        """Log what an operator caused or wants to know: a start, a reload, a stop."""
        self.log(Level.NOTICE, message, **fields)

    def warning(self, message: str, /, **fields: object) -> None:
        """Log a problem that clusterd has handled."""
        self.log(Level.WARNING, message, **fields)

    def error(self, message: str, /, **fields: object) -> None:
        """Log a problem that an operator must look at."""
        self.log(Level.ERROR, message, **fields)

    def exception(self, message: str, error: BaseException, /, **fields: object) -> None:
        """Log an error with its traceback, in one record."""
        self.log(Level.ERROR, f"{message}\n{''.join(traceback.format_exception(error))}", **fields)

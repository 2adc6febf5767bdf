"""The log of every clusterd process: structured records, sent to the journal or to stderr without ever blocking.

The standard library's `logging` is not used: an application that calls dictConfig with `disable_existing_loggers`
would silence it, and its handlers block when the reader of stderr does not read. This package uses only the standard
library, because it also runs in the application's own interpreter.
"""

from clusterd.log.destination import open_sink
from clusterd.log.logger import Logger
from clusterd.log.record import Level, Record
from clusterd.log.sink import Sink

__all__ = ["Level", "Logger", "Record", "Sink", "open_sink"]

"""The log of every clusterd process: structured records that go to the journal or to stderr and never block.

Not the standard library's `logging`: an application that calls dictConfig with `disable_existing_loggers`
would silence it, and its handlers block when the reader of stderr does not read. Standard library only,
because it also runs in the application's own interpreter.
"""

from clusterd.log.destination import open_sink
from clusterd.log.logger import Logger
from clusterd.log.record import Level, Record
from clusterd.log.sink import Sink

__all__ = ["Level", "Logger", "Record", "Sink", "open_sink"]

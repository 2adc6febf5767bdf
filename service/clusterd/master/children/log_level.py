"""Set the log level in the master and in every child process."""

from clusterd.log import Level, Logger
from clusterd.master.children.table import Children
from clusterd.wire.messages import SetLogLevel


def set_log_level(level: Level, log: Logger, children: Children) -> None:
    """Set the log level of the master and of every child.

    That includes workers that drain, and templates, from which future workers inherit the level.
    """
    log.set_level(level)
    for child in children.all():
        if child.log_level is not level:  # Otherwise messages would pile up in the channel of a child that hangs.
            child.log_level = level
            children.send(child, SetLogLevel(int(level)))

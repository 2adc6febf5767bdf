"""From which level on is logged: here, and in everything that runs."""

from clusterd.log import Level, Logger
from clusterd.master.children.table import Children
from clusterd.wire.messages import SetLogLevel


def set_log_level(level: Level, log: Logger, children: Children) -> None:
    """In the master, in workers that drain as well, and in templates for those that they will fork."""
    log.set_level(level)
    for child in children.all():
        if child.log_level is not level:  # one that does not read is not sent it again and again
            child.log_level = level
            children.send(child, SetLogLevel(int(level)))

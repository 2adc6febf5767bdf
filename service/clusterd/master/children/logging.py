"""Set what is logged, in the master and in every child process."""

from clusterd.config.model import AccessLog
from clusterd.log import Level, Logger
from clusterd.master.children.child import Child, Kind
from clusterd.master.children.table import Children
from clusterd.wire.messages import SetAccessLog, SetLogLevel


def set_log_level(level: Level, log: Logger, children: Children) -> None:
    """Set the log level of the master and of every child.

    That includes workers that drain, and templates, from which future workers inherit the level.
    """
    log.set_level(level)
    for child in children.all():
        if child.log_level is not level:  # Otherwise messages would pile up in the channel of a child that hangs.
            child.log_level = level
            children.send(child, SetLogLevel(int(level)))


def tell_again(child: Child, children: Children) -> None:
    """Repeat what a child was told, which may have waited in a master that has died."""
    if child.log_level is not None:
        children.send(child, SetLogLevel(int(child.log_level)))
    if child.access_log is not None:
        children.send(child, SetAccessLog(child.access_log.value))


def set_access_log(mode: AccessLog, children: Children) -> None:
    """Set which requests are logged, likewise in every worker and template."""
    children.access_log = mode
    for child in children.all():
        if child.kind is not Kind.HOOKS and child.access_log is not mode:
            child.access_log = mode
            children.send(child, SetAccessLog(mode.value))

"""What an operator can do where the system makes no further process or thread."""

import errno
import os

_LIMITS = "what limits it is TasksMax= of the unit, `ulimit -u` of the user, and memory"
_NUMBERS = (errno.EAGAIN, errno.ENOMEM)
"""What fork(2), clone(2) and posix_spawn(3) fail with at a limit."""


def why_refused(number: int = errno.EAGAIN) -> str:
    """Return the reason (errno(3)), with the limits if it is one of them."""
    reason = os.strerror(number)
    return f"{reason}; {_LIMITS}" if number in _NUMBERS else reason

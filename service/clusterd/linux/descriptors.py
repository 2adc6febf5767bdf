"""Descriptors: the limit of those of this process, and duplicates of those of another."""

import ctypes
import os
import resource

_libc = ctypes.CDLL(None, use_errno=True)
_SYS_PIDFD_GETFD = 438
"""On every architecture of Debian: since Linux 5.1 a new call has the same number on all."""

ENOUGH = 524_288
"""The limit that the units set. A higher one is useless, and some programs close every number up to it one by one."""


def raise_descriptor_limit() -> int:
    """Raise the soft limit as far as the hard limit allows (getrlimit(2)) and return it. Children inherit it.

    The soft limit is 1024 by default, for the sake of programs that use select(2).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return ENOUGH if soft == resource.RLIM_INFINITY else soft


def descriptor_limit() -> int:
    """Return the soft limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return ENOUGH if soft == resource.RLIM_INFINITY else soft


def duplicate_of(process: int, descriptor: int) -> int:
    """Return a descriptor, closed on exec, of what `descriptor` is in the process of the pidfd `process`.

    Raises OSError: EPERM without the permission to trace the process (pidfd_getfd(2)), EBADF if it has none.
    """
    found: int = _libc.syscall(_SYS_PIDFD_GETFD, process, descriptor, 0)
    if found < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return found

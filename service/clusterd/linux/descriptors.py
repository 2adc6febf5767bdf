"""The limit of open descriptors of this process."""

import resource

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

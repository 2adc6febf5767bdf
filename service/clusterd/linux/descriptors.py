"""How many descriptors this process may have open."""

import resource

ENOUGH = 524_288
"""What the units ask for. More is of no use, and some programs close every number up to the limit one by one."""


def raise_descriptor_limit() -> int:
    """Raise the soft limit as far as the hard one allows (getrlimit(2)); what it is then. Children inherit it.

    The soft one is 1024 unless somebody says otherwise, for the sake of programs that use select(2).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return ENOUGH if soft == resource.RLIM_INFINITY else soft


def descriptor_limit() -> int:
    """The soft limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return ENOUGH if soft == resource.RLIM_INFINITY else soft

"""How many connections a worker can hold: the configured limit, within the process's limit of open files."""

from clusterd.config.model import Config
from clusterd.linux.descriptors import descriptor_limit

RESERVED_DESCRIPTORS = 128
"""Kept for listeners, channels, rejected clients and the application's own files."""


def usable_connections(config: Config) -> int:
    """How many connections a worker may hold: limits.connections, and no more than there are descriptors for."""
    return min(config.limits.connections, max(1, descriptor_limit() - RESERVED_DESCRIPTORS))

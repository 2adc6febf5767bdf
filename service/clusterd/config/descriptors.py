"""How many connections a worker can hold: the configured limit, within the process's limit of open files."""

from clusterd.config.model import Config
from clusterd.linux.descriptors import descriptor_limit

RESERVED_DESCRIPTORS = 128
"""Descriptors kept free for listeners, channels, rejected clients and the application's own files."""


def usable_connections(config: Config) -> int:
    """Return how many connections a worker may hold: limits.connections, reduced if there are fewer descriptors."""
    return min(config.limits.connections, max(1, descriptor_limit() - RESERVED_DESCRIPTORS))

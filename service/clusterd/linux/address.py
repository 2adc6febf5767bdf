"""Where a client connects from, and to."""

Address = tuple[str, int]
"""Host and port of IPv4 or IPv6."""

"""The type of a client's or a local address."""

Address = tuple[str, int]
"""Host and port of IPv4 or IPv6."""

"""What trusted proxies say about a request. origins/forwarded.py computes it, and `Fields` caches it."""

from typing import NamedTuple

from clusterd.linux.address import Address


class ForwardedFields(NamedTuple):
    """The origin that the fields of one request state."""

    tells_peer: bool
    """Whether the fields state a client."""
    peer: Address | None = None
    """The client; None if the proxies hide its address. Port 0 means that the port is unknown."""
    scheme: str | None = None
    """None if the fields do not state it."""

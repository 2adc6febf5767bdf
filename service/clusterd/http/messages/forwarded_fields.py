"""What proxies say of a request, as kept with its fields; read by origins/forwarded.py."""

from typing import NamedTuple

from clusterd.linux.address import Address


class ForwardedFields(NamedTuple):
    """What the fields of one request tell."""

    tells_peer: bool
    """Whether they name a client."""
    peer: Address | None = None
    """The client; None when all that is told is a name the proxies have for it. Port 0 is an unknown one."""
    scheme: str | None = None
    """None when it is not told."""

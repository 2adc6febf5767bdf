"""The state that is passed with a connection's descriptor when another process takes the connection over."""

import base64
import binascii
from typing import NamedTuple

from clusterd.linux.address import Address

RESIDUAL_LIMIT = 32 * 1024
"""The most bytes read after the last request that can be passed on. In base64 they still fit a 64 KiB packet."""


# Created for every connection. A frozen dataclass takes twice as long.
class CarriedState(NamedTuple):
    """A connection between two requests.

    `residual` was read and belongs to an incomplete request. `peer` and `local` are None on a Unix socket. `requests`
    counts the requests served so far. `awaits_header` says that the PROXY protocol header, which comes first, is
    incomplete: its part that was read is in `residual`, and `peer` is the proxy.
    """

    residual: bytes
    peer: Address | None
    local: Address | None
    scheme: str
    requests: int
    awaits_header: bool = False

    @classmethod
    def direct(cls) -> "CarriedState":
        """Return the state of a new connection from clusterd itself, which never comes through a proxy."""
        return cls(b"", None, None, "http", 0)

    def to_json(self) -> dict[str, object]:
        """Return the state as JSON: at most 43.7 KB of residual, and 300 bytes."""
        return {
            "residual": base64.b64encode(self.residual).decode(),
            "peer": self.peer,
            "local": self.local,
            "scheme": self.scheme,
            "requests": self.requests,
            "awaits_header": self.awaits_header,
        }

    @classmethod
    def from_json(cls, value: object) -> "CarriedState":
        """Parse what `to_json` wrote. Raises ValueError for any other value."""
        match value:
            case {
                "residual": str(text),
                "peer": peer,
                "local": local,
                "scheme": str(scheme),
                "requests": int(count),
                "awaits_header": bool(awaits_header),
            }:
                return cls(_decoded(text), _address(peer), _address(local), scheme, count, awaits_header)
        raise ValueError("malformed state of a carried connection")


def _decoded(text: str) -> bytes:
    try:
        residual = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("malformed residual of a carried connection") from error
    if len(residual) > RESIDUAL_LIMIT:
        raise ValueError("residual of a carried connection is too long")
    return residual


def _address(value: object) -> Address | None:
    match value:
        case None:
            return None
        case [str(host), int(port)]:
            return host, port
    raise ValueError("malformed address of a carried connection")

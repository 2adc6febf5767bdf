"""What travels with a connection's descriptor when another process takes the connection over."""

import base64
import binascii
from typing import NamedTuple

from clusterd.linux.address import Address

RESIDUAL_LIMIT = 32 * 1024
"""Bytes read beyond the last request that can travel along: in base64 they still fit a 64 KiB packet."""


# Made for every connection: a frozen dataclass takes twice as long.
class CarriedState(NamedTuple):
    """A connection between two requests.

    `residual` was read but belongs to a request not yet complete; `peer` and `local` are None on a unix
    socket; `requests` counts those served so far. `awaits_header` says that the PROXY protocol header, which comes
    before all else, has not come as a whole: what there is of it is in `residual`, and `peer` is the proxy.
    """

    residual: bytes
    peer: Address | None
    local: Address | None
    scheme: str
    requests: int
    awaits_header: bool = False

    @classmethod
    def direct(cls) -> "CarriedState":
        """That of a new connection that comes from clusterd itself, and by way of no proxy whatever is configured."""
        return cls(b"", None, None, "http", 0)

    def to_json(self) -> dict[str, object]:
        """As JSON: at most 43.7 KB of residual, and 300 bytes."""
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
        """Read what `to_json` wrote. Raises ValueError for anything else."""
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

"""How a connection passes from one process to another: from a retiring worker to its successor, or from the master.

One SEQPACKET packet carries one connection: its descriptor and what is known of it. The receiver answers with the
packet's number *before* it reads a byte from the connection, the sender drops its copy when it has read that answer,
and what is not acknowledged stays with the sender: at no time do two processes read one connection, and none is lost
with either of them.

    {"number": 1, "carried": {...}, "anyway": true} + [connection]   sender to receiver
    {"number": 1, "declined": null}                                  receiver to sender
"""

import json
from dataclasses import dataclass
from enum import StrEnum

from clusterd.wire.messages import ProtocolError


class Decline(StrEnum):
    """Why a receiver leaves a connection to its sender."""

    FULL = "full"
    """It has as many as it may have, and somebody else may have room."""
    NO_DESCRIPTOR = "no descriptor"
    """It may not open any more, so that the connection did not even come through."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A connection for the receiver, to be taken `anyway` or only where there is room for it."""

    number: int
    carried: dict[str, object]
    anyway: bool = True

    def encode(self) -> bytes:
        """The packet."""
        return json.dumps({"number": self.number, "carried": self.carried, "anyway": self.anyway}).encode()

    @classmethod
    def decode(cls, packet: bytes) -> "Offer":
        """Read what `encode` wrote. Raises ProtocolError for anything else."""
        match _load(packet):
            case {"number": int(number), "carried": dict(carried), "anyway": bool(anyway)}:
                return cls(number, carried, anyway)
        raise ProtocolError("an offer of a connection was expected")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the receiver says of the offer with that number."""

    number: int
    declined: Decline | None = None
    """None: the connection is the receiver's."""

    def encode(self) -> bytes:
        """The packet."""
        return json.dumps({"number": self.number, "declined": self.declined}).encode()

    @classmethod
    def decode(cls, packet: bytes) -> "Answer":
        """Read what `encode` wrote. Raises ProtocolError for anything else."""
        match _load(packet):
            case {"number": int(number), "declined": None}:
                return cls(number)
            case {"number": int(number), "declined": "full" | "no descriptor" as why}:
                return cls(number, Decline(why))
        raise ProtocolError("an answer to an offer of a connection was expected")


def _load(packet: bytes) -> object:
    try:
        return json.loads(packet)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not JSON: {error}") from error

"""The protocol that passes a connection to another process: from a worker to its successor, or from the master.

One SEQPACKET packet carries one connection: its descriptor and its state. The receiver answers with the packet's number
*before* it reads a byte from the connection. The sender drops its copy when it has read the answer. A connection that
is not acknowledged stays with the sender. So two processes never read one connection at the same time, and no
connection is lost when either process dies.

The master rescues connections of a worker that is about to be killed (`given`). They are the receiver's from the offer
on: if the master dies, the next one does not offer them again.

    {"number": 1, "carried": {...}, "anyway": true, "given": false} + [connection]   sender to receiver
    {"number": 1, "declined": null}                                                 receiver to sender
"""

import json
from enum import StrEnum

from clusterd.records import dataclass
from clusterd.wire.messages import ProtocolError


class Decline(StrEnum):
    """Why a receiver leaves a connection to its sender."""

    FULL = "full"
    """The receiver is at its limit. Another worker may have room."""
    NO_DESCRIPTOR = "no descriptor"
    """The receiver may not open another descriptor, so it did not receive the connection."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A connection for the receiver. It must take it if `anyway` is true, else only if it has room.

    If `given` is true it takes it also when the sender has ended, which does not take it back.
    """

    number: int
    carried: dict[str, object]
    anyway: bool = True
    given: bool = False

    def encode(self) -> bytes:
        """Return the packet."""
        packet = {"number": self.number, "carried": self.carried, "anyway": self.anyway, "given": self.given}
        return json.dumps(packet).encode()

    @classmethod
    def decode(cls, packet: bytes) -> "Offer":
        """Parse what `encode` wrote. Raises ProtocolError for any other packet."""
        match _load(packet):
            case {"number": int(number), "carried": dict(carried), "anyway": bool(anyway), **rest}:
                return cls(number, carried, anyway, rest.get("given") is True)  # An older sender does not say it.
        raise ProtocolError("an offer of a connection was expected")


@dataclass(frozen=True, slots=True)
class Answer:
    """The receiver's answer to the offer with that number."""

    number: int
    declined: Decline | None = None
    """None means that the connection belongs to the receiver."""

    def encode(self) -> bytes:
        """Return the packet."""
        return json.dumps({"number": self.number, "declined": self.declined}).encode()

    @classmethod
    def decode(cls, packet: bytes) -> "Answer":
        """Parse what `encode` wrote. Raises ProtocolError for any other packet."""
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

"""permessage-deflate (RFC 7692): what is agreed on with a client, and the compression of its messages."""

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

NAME = "permessage-deflate"
WINDOW_BITS = 15
"""The largest window, and the one of a side that names none (RFC 7692 section 7.1.2)."""

_BITS = r"(?:9|1[0-5])"  # zlib does not support windows of 8 bits.
_match_parameter = re.compile(
    r"[ \t]*(?:(?P<flag>(?:client|server)_no_context_takeover|client_max_window_bits)"
    rf"|(?P<name>(?:client|server)_max_window_bits)[ \t]*=[ \t]*(?P<bits>{_BITS}))[ \t]*"
).fullmatch
_TAIL = b"\x00\x00\xff\xff"
"""What a sender leaves out at the end of a message (RFC 7692 section 7.2.1)."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the two sides have agreed on. A window is given as the logarithm of its size to the base 2."""

    accepted: str
    """The value for the response's Sec-WebSocket-Extensions."""
    window_bits: int
    """Of what the server sends. What the client sends is decompressed with the largest."""
    server_forgets: bool
    """Whether each message of the server is compressed without those before it."""
    client_forgets: bool


def agree(offers: Iterable[str]) -> Agreement | None:
    """Accept the first offer that can be accepted; None if there is none."""
    for offer in offers:
        name, *parameters = offer.split(";")
        if name.strip() == NAME:
            agreement = _accept(parameters)
            if agreement is not None:
                return agreement
    return None


def _accept(parameters: list[str]) -> Agreement | None:
    """None for an offer with anything unknown, repeated or out of range (RFC 7692 section 7.1)."""
    offered: dict[str, int] = {}
    for parameter in parameters:
        match = _match_parameter(parameter)
        if match is None:
            return None
        name = match["flag"] or match["name"]
        if name in offered:
            return None
        offered[name] = int(match["bits"] or WINDOW_BITS)
    agreed = [NAME]
    for name, bits in offered.items():
        agreed.append(f"{name}={bits}" if name.endswith("_bits") else name)
    return Agreement(
        accepted="; ".join(agreed),
        window_bits=offered.get("server_max_window_bits", WINDOW_BITS),
        server_forgets="server_no_context_takeover" in offered,
        client_forgets="client_no_context_takeover" in offered,
    )


class Compression:
    """Both directions of one WebSocket. A direction needs its memory from its first message on."""

    __slots__ = ("_agreement", "_deflater", "_inflater")

    def __init__(self, agreement: Agreement) -> None:
        self._agreement = agreement
        self._deflater: zlib._Compress | None = None
        self._inflater: zlib._Decompress | None = None

    def compress(self, message: bytes) -> bytes:
        """Compress a message."""
        deflater = self._deflater
        if deflater is None:
            deflater = zlib.compressobj(wbits=-self._agreement.window_bits)
        compressed = deflater.compress(message) + deflater.flush(zlib.Z_SYNC_FLUSH)
        self._deflater = None if self._agreement.server_forgets else deflater
        return compressed[: -len(_TAIL)]

    def decompress(self, data: bytes, limit: int, *, is_end: bool) -> bytes:
        """Decompress a part of a message. The result has `limit` + 1 bytes at most: then it is too long.

        Raises zlib.error for what is not compressed data, and for what follows its end. A message may be a whole
        stream, with a byte of zeros after it (RFC 7692 section 7.2.3.4). That another one follows is not supported.
        """
        inflater = self._inflater
        if inflater is None:
            inflater = zlib.decompressobj(wbits=-WINDOW_BITS)
        if _has_ended(inflater):
            _check_rest(inflater.unused_data + data)  # It would only keep what it is given.
            decompressed = b""
        else:
            decompressed = inflater.decompress(data, limit + 1)
            if _has_ended(inflater):
                _check_rest(inflater.unused_data)
            elif is_end and len(decompressed) <= limit:
                decompressed += inflater.decompress(_TAIL, limit + 1 - len(decompressed))
        forgets = is_end and (self._agreement.client_forgets or _has_ended(inflater))
        self._inflater = None if forgets else inflater
        return decompressed


def _has_ended(inflater: "zlib._Decompress") -> bool:
    """Whether the stream is at its end. Each call may change it, which mypy does not know of an attribute."""
    return inflater.eof


def _check_rest(rest: bytes) -> None:
    """Raise zlib.error if something follows the end of a stream."""
    if rest not in (b"", b"\x00"):
        raise zlib.error("data after the end of a stream")

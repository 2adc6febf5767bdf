"""The opening handshake of a WebSocket (RFC 6455 section 4.2): detects, checks and accepts it. No frames."""

import re
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha1
from http import HTTPStatus

from clusterd.http.messages.framing import body_length
from clusterd.http.messages.grammar import TOKEN
from clusterd.http.messages.head import Head
from clusterd.http.messages.refusal import Refusal, bad_request
from clusterd.http.messages.response import Stamp, field_line
from clusterd.http.settings import Limits

VERSION = "13"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

_match_key = re.compile(r"[A-Za-z0-9+/]{21}[AQgw]==").fullmatch
"""Matches 16 bytes in base64."""
_match_token = re.compile(TOKEN).fullmatch

_OURS = frozenset(
    {b"connection", b"content-length", b"date", b"keep-alive", b"server", b"transfer-encoding", b"upgrade"}
)
_OUR_PREFIX = b"sec-websocket-"
"""Fields of the accepting response that only the server sets. Those of the application are left out."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """The client's handshake."""

    key: str
    subprotocols: list[str]
    extensions: list[str]
    """The extensions that the client offers, each with its parameters, the preferred one first."""


def wants_websocket(head: Head) -> bool:
    """Whether this request asks for a WebSocket, even with a malformed handshake.

    A request in HTTP/1.0, or whose Connection field does not list `upgrade`, does not (RFC 9110 section 7.8).
    """
    fields = head.fields
    return (
        head.minor == 1
        and "websocket" in _listed(fields.get("upgrade", "").lower())
        and "upgrade" in _listed(fields.get("connection", "").lower())
    )


def handshake_of(head: Head, limits: Limits) -> Handshake:
    """Parse the client's handshake. Raises Refusal if it is malformed or for another version."""
    fields = head.fields
    if head.method != "GET":
        raise bad_request("a WebSocket handshake must use GET")
    if body_length(head, limits):
        raise bad_request("a WebSocket handshake must not have a body")
    if fields.get("sec-websocket-version") != VERSION:
        status = HTTPStatus.UPGRADE_REQUIRED if "sec-websocket-version" in fields else HTTPStatus.BAD_REQUEST
        offer = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", VERSION))
        raise Refusal(status, "this server speaks WebSocket version 13", offer, "bad_request")
    key = fields.get("sec-websocket-key", "")
    if _match_key(key) is None:
        raise bad_request("missing or malformed Sec-WebSocket-Key")
    subprotocols = _listed(fields.get("sec-websocket-protocol", ""))
    if any(_match_token(each) is None for each in subprotocols) or len(set(subprotocols)) != len(subprotocols):
        raise bad_request("malformed Sec-WebSocket-Protocol")
    return Handshake(key, subprotocols, _listed(fields.get("sec-websocket-extensions", "")))


def acceptance(
    handshake: Handshake,
    subprotocol: str | None,
    extension: str | None,
    headers: Iterable[tuple[bytes, bytes]],
    stamp: Stamp,
) -> bytes:
    """Encode the accepting response, with the application's header fields. Raises ValueError if one cannot be sent."""
    if subprotocol is not None and subprotocol not in handshake.subprotocols:
        raise ValueError(f"the subprotocol {subprotocol!r} is none of those that the client offers")
    digest = sha1(handshake.key.encode() + _GUID, usedforsecurity=False).digest()
    fields = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", b64encode(digest).decode()),
    ]
    if subprotocol is not None:
        fields.append(("Sec-WebSocket-Protocol", subprotocol))
    if extension is not None:
        fields.append(("Sec-WebSocket-Extensions", extension))
    fields += [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in headers
        if name.lower() not in _OURS and not name.lower().startswith(_OUR_PREFIX)
    ]
    lines = b"".join(field_line(name, value) for name, value in fields)
    return b"HTTP/1.1 101 Switching Protocols\r\n%b%b\r\n" % (stamp.fields, lines)


def _listed(value: str) -> list[str]:
    """Split a comma-separated field. Quoted strings are not supported: no supported extension uses them."""
    return [member for each in value.split(",") if (member := each.strip(" \t"))]

"""The PROXY protocol, versions 1 and 2: a header at the start of a connection that tells the addresses of the client.

Section numbers refer to https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt.
"""

import re
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from clusterd.linux.address import Address

LONGEST_TEXT = 107
"""Maximum bytes of a header of version 1, including its CRLF (section 2.1)."""

LONGEST_BINARY = 4096
"""Maximum bytes after the fixed part of version 2. The protocol allows 64 KiB. Addresses take at most 216 bytes; the
rest is extensions, of which certificates are the longest."""

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED = 16
_TEXT_BEGINS = b"PROXY "

_PORT = r"(0|[1-9][0-9]{0,4})"
_match_text = re.compile(rf"PROXY (TCP4|TCP6) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) {_PORT} {_PORT}\r\n").fullmatch

_LOCAL, _PROXY = 0x20, 0x21
_ADDRESS_BYTES = {0x00: 0, 0x11: 12, 0x12: 12, 0x21: 36, 0x22: 36, 0x31: 216, 0x32: 216}
"""Size of the addresses in version 2, by family and transport. Datagrams: the client speaks QUIC to the proxy."""
_UNSPECIFIED, _IPV4, _IPV6, _UNIX = 0, 1, 2, 3


class MalformedProxyHeader(ValueError):
    """The bytes are not a PROXY protocol header."""


class ProxyHeader(NamedTuple):
    """A parsed header."""

    size: int
    """Bytes of the header. The client's bytes follow."""
    tells_peer: bool
    """Whether it has addresses. If not, those of the connection apply: the proxy speaks for itself or knows none."""
    peer: Address | None = None
    """None if the client is on a Unix socket."""
    local: Address | None = None
    """The address the client connected to; None if it is a Unix socket."""


def parse_proxy_header(received: bytes) -> ProxyHeader | None:
    """Parse the header at the beginning of `received`. None while a part of it is missing.

    Raises MalformedProxyHeader as soon as wrong bytes arrive.
    """
    if received[: len(_SIGNATURE)] == _SIGNATURE[: len(received)]:
        return _parse_binary(received) if len(received) >= _FIXED else None
    if received[: len(_TEXT_BEGINS)] == _TEXT_BEGINS[: len(received)]:
        return _parse_text(received)
    raise MalformedProxyHeader("no PROXY protocol header")


def _parse_text(received: bytes) -> ProxyHeader | None:
    """Version 1 (section 2.1)."""
    end = received.find(b"\n", 0, LONGEST_TEXT) + 1
    if not end:
        if len(received) >= LONGEST_TEXT:
            raise MalformedProxyHeader(f"a PROXY line above {LONGEST_TEXT} bytes")
        return None
    line = received[:end].decode("latin-1")
    if re.fullmatch(r"PROXY UNKNOWN(?: [^\r\n]*)?\r\n", line):
        return ProxyHeader(end, tells_peer=False)
    match = _match_text(line)
    if match is None:
        raise MalformedProxyHeader("a malformed PROXY line")
    family, peer, local, peer_port, local_port = match.groups()
    return ProxyHeader(end, True, _text_address(family, peer, peer_port), _text_address(family, local, local_port))


def _text_address(family: str, host: str, port: str) -> Address:
    try:
        address = IPv4Address(host) if family == "TCP4" else IPv6Address(host)
    except ValueError as error:
        raise MalformedProxyHeader("a malformed address in a PROXY line") from error
    if int(port) > 65535:
        raise MalformedProxyHeader("a port above 65535 in a PROXY line")
    return _host(address), int(port)


def _parse_binary(received: bytes) -> ProxyHeader | None:
    """Version 2 (section 2.2). `received` has at least the fixed part. Extensions (TLVs) are skipped unread."""
    command, family = received[12], received[13]
    length = int.from_bytes(received[14:_FIXED], "big")
    size = _FIXED + length
    if command not in (_LOCAL, _PROXY):
        raise MalformedProxyHeader(f"version and command {command:#04x} of a PROXY header")
    if length > LONGEST_BINARY:
        raise MalformedProxyHeader(f"a PROXY header above {LONGEST_BINARY} bytes")
    if command == _PROXY and length < _address_bytes(family):
        raise MalformedProxyHeader("a PROXY header shorter than its addresses")
    if len(received) < size:
        return None
    kind = family >> 4
    # For a connection that the proxy opens for itself, such as a health check, the family has no meaning.
    if command == _LOCAL or kind == _UNSPECIFIED:
        return ProxyHeader(size, tells_peer=False)
    if kind == _UNIX:
        return ProxyHeader(size, tells_peer=True)
    width = 4 if kind == _IPV4 else 16
    at = _FIXED + 2 * width
    return ProxyHeader(
        size,
        True,
        _binary_address(received[_FIXED : _FIXED + width], received[at : at + 2]),
        _binary_address(received[_FIXED + width : at], received[at + 2 : at + 4]),
    )


def _address_bytes(family: int) -> int:
    known = _ADDRESS_BYTES.get(family)
    if known is None:
        raise MalformedProxyHeader(f"address family {family:#04x} of a PROXY header")
    return known


def _binary_address(host: bytes, port: bytes) -> Address:
    address = IPv4Address(host) if len(host) == 4 else IPv6Address(host)
    return _host(address), int.from_bytes(port, "big")


def _host(address: IPv4Address | IPv6Address) -> str:
    """Return the address as text. A mapped IPv4 address, from a proxy that listens on both families, becomes IPv4."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)

"""Where a request comes from, out of the header fields that trusted proxies set. No socket.

Only for requests whose peer is trusted. Each proxy adds the address it was asked from at the end of the list, so the
list is read from its end: as long as an address is a trusted proxy's, what stands before it was written by that
proxy. The first other address is the client; what stands before it the client has made up, and is not looked at.
"""

import re
from typing import NamedTuple

from clusterd.http.messages.forwarded_fields import ForwardedFields
from clusterd.http.messages.grammar import TOKEN
from clusterd.http.messages.head import Fields
from clusterd.http.origins.trust import TrustedProxies, plain_ip
from clusterd.linux.address import Address


class Hop(NamedTuple):
    """One proxy's entry."""

    node: Address | None
    """Whom it was asked by; None for an address that it hides."""
    scheme: str | None = None


LONGEST_ELEMENT = 1024
"""Characters of an element of Forwarded, so that looking for its beginning has an end."""

NOTHING_TOLD = ForwardedFields(tells_peer=False)

_SCHEMES = frozenset({"http", "https"})
_QUOTED = r'"(?:[^"\\]|\\.)*+"'
_PAIR = rf"({TOKEN})=({TOKEN}|{_QUOTED})"
# RFC 7239 section 4, and with it section 5.6.6 of RFC 9110: no space around "=", optional space around ";".
_match_element = re.compile(rf"[ \t]*+{_PAIR}(?:[ \t]*+;[ \t]*+{_PAIR})*+[ \t]*+").fullmatch
_find_pairs = re.compile(_PAIR).findall
# An address with or without a port; IPv6 has brackets where there is a port (RFC 7239 section 6).
_PORT = r"(?::([0-9]{1,5}|_[A-Za-z0-9._\-]++))?+"
_match_node = re.compile(rf"(?:([0-9.]++)|\[([0-9A-Fa-f]*+:[0-9A-Fa-f:.]++)\]){_PORT}").fullmatch
_match_hidden = re.compile(rf"(?:unknown|_[A-Za-z0-9._\-]++){_PORT}").fullmatch


def told_by(fields: Fields, trusted: TrustedProxies) -> ForwardedFields:
    """What trusted proxies say. A field that is malformed where it matters tells nothing; no field raises anything.

    Where any of X-Forwarded-For and X-Forwarded-Proto is there, Forwarded is not looked at. Most proxies set those and
    pass on a Forwarded that their client made up, which would win otherwise.
    """
    addresses, scheme = fields.get("x-forwarded-for"), fields.get("x-forwarded-proto")
    if addresses is None and scheme is None:
        forwarded = fields.get("forwarded")
        return NOTHING_TOLD if forwarded is None else _by_forwarded(forwarded, trusted)
    told = NOTHING_TOLD if addresses is None else _by_list(addresses, trusted)
    return told if scheme is None else told._replace(scheme=_nearest_scheme(scheme))


def _by_list(value: str, trusted: TrustedProxies) -> ForwardedFields:
    hop = None
    for entry in reversed(value.split(",")):
        hop = _listed_node(entry.strip(" \t"))
        if hop is None:
            return NOTHING_TOLD
        if not _is_trusted(hop, trusted):
            break
    return NOTHING_TOLD if hop is None else ForwardedFields(True, hop.node)


def _by_forwarded(value: str, trusted: TrustedProxies) -> ForwardedFields:
    hop, end = None, len(value)
    while end > 0 or hop is None:
        start, element = _last_element(value, end)
        hop = _forwarded_hop(element)
        if hop is None:
            return NOTHING_TOLD
        if not _is_trusted(hop, trusted):
            break
        end = start
    return ForwardedFields(True, hop.node, hop.scheme)


def _last_element(value: str, end: int) -> tuple[int, str]:
    """The element that ends at `end`, empty if there is none, and where the comma before it is, or -1.

    Looked for from the end, as the client may have opened a quoted string that the proxy's element would be a part of.
    What begins inside a quoted string of a well-formed element is never taken for one: quotes in there have
    backslashes before them, so the closing one would be left over.
    """
    start = end
    while True:
        start = value.rfind(",", 0, start)
        element = _match_element(value, start + 1, end)
        if element is not None:
            return start, element.group()
        if start < 0 or end - start > LONGEST_ELEMENT:
            return start, ""


def _is_trusted(hop: Hop, trusted: TrustedProxies) -> bool:
    return hop.node is not None and trusted.includes(hop.node[0])


def _forwarded_hop(element: str) -> Hop | None:
    """One element of Forwarded; None when it is empty, or says anything twice.

    One that does not name whom its proxy was asked by hides it.
    """
    pairs = [(name.lower(), _unquoted(value)) for name, value in _find_pairs(element)]
    values = dict(pairs)
    if not pairs:
        return None
    node = _node(values.get("for", "unknown"))
    if node is None or len(values) != len(pairs):
        return None
    scheme = values.get("proto", "").lower()
    return node._replace(scheme=scheme if scheme in _SCHEMES else None)


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _listed_node(text: str) -> Hop | None:
    """One entry of X-Forwarded-For, where IPv6 addresses also come without brackets."""
    if text.count(":") > 1 and not text.startswith("["):
        text = f"[{text}]"
    return _node(text)


def _node(text: str) -> Hop | None:
    """A node (RFC 7239 section 6): an address and maybe a port, or a word that hides them; None when malformed."""
    match = _match_node(text)
    if match is None:
        return Hop(None) if _match_hidden(text) else None
    ipv4, ipv6, port = match.groups()
    address = plain_ip(ipv4 or ipv6)
    number = int(port) if port is not None and port.isdigit() else 0
    if address is None or number > 65535:
        return None
    return Hop((str(address), number))


def _nearest_scheme(value: str) -> str | None:
    """Of a list, what the nearest proxy says: of the others nobody knows to which address they belong."""
    scheme = value.rpartition(",")[2].strip(" \t").lower()
    return scheme if scheme in _SCHEMES else None

"""Finds the client of a request in the header fields that trusted proxies set. Uses no socket.

Only for requests whose peer is trusted. Each proxy appends the address of its own client to the list, so the list is
read from its end. As long as an address is that of a trusted proxy, that proxy has written the entry before it. The
first other address is the client. The entries before it may be made up by the client and are ignored.
"""

import re
from typing import NamedTuple

from clusterd.http.messages.forwarded_fields import ForwardedFields
from clusterd.http.messages.grammar import TOKEN
from clusterd.http.messages.head import Fields
from clusterd.http.origins.trust import TrustedProxies, plain_ip
from clusterd.linux.address import Address


class Hop(NamedTuple):
    """The entry of one proxy."""

    node: Address | None
    """The client of that proxy; None if the proxy hides the address."""
    scheme: str | None = None


MOST_HOPS = 32
"""Maximum trusted proxies in a row. A longer list is made up and tells nothing."""

LONGEST_ELEMENT = 512
"""Maximum characters of an element of Forwarded. It bounds the search for the beginning of the element."""

MOST_COMMAS = 256
"""Maximum commas at which that search begins, in all elements together: a quoted string may be full of them."""

NOTHING_TOLD = ForwardedFields(tells_peer=False)

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
"""The scheme of the connection for what a proxy says of a request; some say ws or wss for a WebSocket (Traefik)."""
_QUOTED = r'"(?:[^"\\]|\\.)*+"'
_PAIR = rf"({TOKEN})=({TOKEN}|{_QUOTED})"
# RFC 7239 section 4 and RFC 9110 section 5.6.6: no space around "=", optional space around ";".
_match_element = re.compile(rf"[ \t]*+{_PAIR}(?:[ \t]*+;[ \t]*+{_PAIR})*+[ \t]*+").fullmatch
_find_pairs = re.compile(_PAIR).findall
# An address with or without a port. IPv6 addresses are in brackets (RFC 7239 section 6).
_PORT = r"(?::([0-9]{1,5}|_[A-Za-z0-9._\-]++))?+"
_match_node = re.compile(rf"(?:([0-9.]++)|\[([0-9A-Fa-f]*+:[0-9A-Fa-f:.]++)\]){_PORT}").fullmatch
_match_hidden = re.compile(rf"(?:unknown|_[A-Za-z0-9._\-]++){_PORT}").fullmatch


def told_by(fields: Fields, trusted: TrustedProxies) -> ForwardedFields:
    """Return what trusted proxies say about the client. Ignores a field whose relevant part is malformed; never raises.

    If X-Forwarded-For or X-Forwarded-Proto is present, Forwarded is ignored. Most proxies set the former two and pass
    on a Forwarded that their client may have made up.
    """
    addresses, scheme = fields.get("x-forwarded-for"), fields.get("x-forwarded-proto")
    if addresses is None and scheme is None:
        forwarded = fields.get("forwarded")
        return NOTHING_TOLD if forwarded is None else _by_forwarded(forwarded, trusted)
    told = NOTHING_TOLD if addresses is None else _by_list(addresses, trusted)
    return told if scheme is None else told._replace(scheme=_nearest_scheme(scheme))


def _by_list(value: str, trusted: TrustedProxies) -> ForwardedFields:
    hop = None
    # The first of these entries may be all that is before the last hops, and then it is malformed.
    for entry in reversed(value.rsplit(",", MOST_HOPS)):
        hop = _listed_node(entry.strip(" \t"))
        if hop is None:
            return NOTHING_TOLD
        if not _is_trusted(hop, trusted):
            break
    return NOTHING_TOLD if hop is None else ForwardedFields(True, hop.node)


def _by_forwarded(value: str, trusted: TrustedProxies) -> ForwardedFields:
    hop, end, commas, hops = None, len(value), MOST_COMMAS, MOST_HOPS
    while end > 0 or hop is None:
        start, element, commas = _last_element(value, end, commas)
        hop = _forwarded_hop(element)
        if hop is None or hops < 0:
            return NOTHING_TOLD
        if not _is_trusted(hop, trusted):
            break
        end, hops = start, hops - 1
    return ForwardedFields(True, hop.node, hop.scheme)


def _last_element(value: str, end: int, commas: int) -> tuple[int, str, int]:
    """Return the element that ends at `end`, or ""; the index of the comma before it, or -1; the rest of `commas`.

    The search goes backwards, because the client may have opened a quoted string that would swallow the proxy's
    element. Text inside a quoted string of a well-formed element never matches as an element: quotes in there are
    escaped with backslashes, so the closing quote would be left over.
    """
    start = end
    while True:
        start = value.rfind(",", 0, start)
        commas -= 1
        if end - start > LONGEST_ELEMENT or commas < 0:
            return start, "", commas
        element = _match_element(value, start + 1, end)
        if element is not None:
            return start, element.group(), commas
        if start < 0:
            return start, "", commas


def _is_trusted(hop: Hop, trusted: TrustedProxies) -> bool:
    return hop.node is not None and trusted.includes(hop.node[0])


def _forwarded_hop(element: str) -> Hop | None:
    """Parse one element of Forwarded. None if it is malformed, empty, or has a parameter twice.

    An element without "for" counts as one that hides the address.
    """
    pairs = [(name.lower(), _unquoted(value)) for name, value in _find_pairs(element)]
    values = dict(pairs)
    if not pairs:
        return None
    node = _node(values.get("for", "unknown"))
    if node is None or len(values) != len(pairs):
        return None
    scheme = values.get("proto", "").lower()
    return node._replace(scheme=_SCHEMES.get(scheme))


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _listed_node(text: str) -> Hop | None:
    """Parse one entry of X-Forwarded-For, where IPv6 addresses may lack the brackets."""
    if text.count(":") > 1 and not text.startswith("["):
        text = f"[{text}]"
    return _node(text)


def _node(text: str) -> Hop | None:
    """Parse a node (RFC 7239 section 6): an address with an optional port, or a word that hides it. None: malformed."""
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
    """Return the last scheme of the list, the nearest proxy's. The addresses of the other entries are unknown."""
    scheme = value.rpartition(",")[2].strip(" \t").lower()
    return _SCHEMES.get(scheme)

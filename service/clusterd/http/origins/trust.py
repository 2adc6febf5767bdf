"""Decides which peers are trusted to state where a request comes from. Uses no socket."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from clusterd.http.messages.memory import Memory
from clusterd.linux.address import Address

UNIX = "unix"
"""Stands for every peer without an address, on a Unix socket. The mode of the socket decides who may connect."""

_REMEMBERED = 1024


def plain_ip(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an IP address. None if `text` is not one or has a zone.

    An IPv4-mapped address as ::ffff:192.0.2.1, which a socket for both families reports (RFC 4291 section 2.5.5.2),
    becomes IPv4. Otherwise another spelling could bypass a list of networks, here or in the application.
    """
    try:
        found = ip_address(text)
    except ValueError:
        return None
    if isinstance(found, IPv6Address):
        return None if found.scope_id else found.ipv4_mapped or found
    return found


class TrustedProxies:
    """The setting trusted_proxies: addresses, networks, and `unix`."""

    __slots__ = ("_includes_unix", "_known", "_networks")

    def __init__(self, trusted: Iterable[str]) -> None:
        listed = tuple(trusted)
        self._includes_unix = UNIX in listed
        self._networks = tuple(ip_network(each) for each in listed if each != UNIX)
        self._known: Memory[str, bool] = Memory(_REMEMBERED)

    def trusts(self, peer: Address | None) -> bool:
        """Whether a peer is a trusted proxy. None is a peer without an address."""
        return self._includes_unix if peer is None else self.includes(peer[0])

    def includes(self, host: str) -> bool:
        """Whether an address, in any spelling, is that of a trusted proxy."""
        if not self._networks:
            return False
        known = self._known.get(host)
        if known is None:
            address = plain_ip(host.partition("%")[0])  # A link-local peer has a zone; networks have none.
            known = address is not None and any(address in network for network in self._networks)
            self._known.remember(host, known)
        return known

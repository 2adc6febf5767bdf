"""Where connections and their requests come from, as far as somebody trusted says so; and who is turned away."""

from typing import NamedTuple

from clusterd.http.messages.head import Fields
from clusterd.http.origins.forwarded import told_by
from clusterd.http.origins.trust import TrustedProxies
from clusterd.http.ports import Log
from clusterd.http.settings import HttpSettings
from clusterd.linux.address import Address


class Origin(NamedTuple):
    """Where a request comes from, for the application and the access log."""

    peer: Address | None
    """The client; None on a Unix socket, and where proxies hide it. Port 0 is an unknown one."""
    local: Address | None
    scheme: str
    tells_scheme: bool
    """Whether the scheme is what a proxy was asked with."""


class Origins:
    """One for all connections of an engine."""

    __slots__ = ("_has_complained", "_log", "_trusted", "expects_header")

    def __init__(self, settings: HttpSettings, log: Log) -> None:
        self._trusted = TrustedProxies(settings.trusted_proxies)
        self._log = log
        self._has_complained = False
        self.expects_header = settings.proxy_protocol
        """Whether a new connection begins with a PROXY protocol header."""

    def trusts(self, peer: Address | None) -> bool:
        """Whether a peer speaks for others."""
        return self._trusted.trusts(peer)

    def of(self, fields: Fields, peer: Address | None, local: Address | None, scheme: str) -> Origin:
        """Where a request comes from that a trusted peer brings: `peer` and `scheme` are for what it does not say.

        What the fields say is found out once for all requests that bring the same ones.
        """
        told = fields.told
        if told is None:
            told = fields.told = told_by(fields, self._trusted)
        return Origin(told.peer if told.tells_peer else peer, local, told.scheme or scheme, told.scheme is not None)

    def turned_away(self, peer: Address | None, reason: str) -> None:
        """Tell of a connection that was closed unheard.

        The first one is reported, since most likely somebody's configuration is wrong; every one would be a way to
        fill the log from outside.
        """
        who = peer[0] if peer is not None else "a Unix socket"
        message = f"a connection from {who} is closed: {reason}, and proxy_protocol is on"
        if self._has_complained:
            self._log.debug(message)
            return
        self._has_complained = True
        self._log.error(f"{message} (further ones are only told at the level debug)")

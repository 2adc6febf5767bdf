"""Decides where a connection and its requests come from, and logs the connections that the engine refuses."""

from typing import NamedTuple

from clusterd.http.messages.head import Fields
from clusterd.http.origins.forwarded import told_by
from clusterd.http.origins.trust import TrustedProxies
from clusterd.http.ports import Log
from clusterd.http.settings import HttpSettings
from clusterd.linux.address import Address


class Origin(NamedTuple):
    """The origin of a request, for the application and the access log."""

    peer: Address | None
    """The client. None on a Unix socket, and if the proxies hide it. Port 0 means that the port is unknown."""
    local: Address | None
    scheme: str
    tells_scheme: bool
    """Whether a trusted proxy has stated the scheme."""


class Origins:
    """Finds the origin of requests. One object for all connections of an engine."""

    __slots__ = ("_has_complained", "_log", "_trusted", "expects_header")

    def __init__(self, settings: HttpSettings, log: Log) -> None:
        self._trusted = TrustedProxies(settings.trusted_proxies)
        self._log = log
        self._has_complained = False
        self.expects_header = settings.proxy_protocol
        """Whether a new connection begins with a PROXY protocol header."""

    def trusts(self, peer: Address | None) -> bool:
        """Whether a peer is a trusted proxy."""
        return self._trusted.trusts(peer)

    def of(self, fields: Fields, peer: Address | None, local: Address | None, scheme: str) -> Origin:
        """Return the origin of a request from a trusted peer. `peer` and `scheme` apply if its fields do not tell them.

        The fields are evaluated once for all requests that have the same ones.
        """
        told = fields.told
        if told is None:
            told = fields.told = told_by(fields, self._trusted)
        return Origin(told.peer if told.tells_peer else peer, local, told.scheme or scheme, told.scheme is not None)

    def turned_away(self, peer: Address | None, reason: str) -> None:
        """Log a connection that was closed without a response.

        The first one is logged as an error, since most likely a configuration is wrong. If every one were, clients
        could fill the log.
        """
        who = peer[0] if peer is not None else "a Unix socket"
        message = f"a connection from {who} is closed: {reason}, and proxy_protocol is on"
        if self._has_complained:
            self._log.debug(message)
            return
        self._has_complained = True
        self._log.error(f"{message} (further ones are logged only at level debug)")

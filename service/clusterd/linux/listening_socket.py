"""Sockets for the acceptor. They know what is the same for all connections of a listener, without asking the kernel.

Python's own socket asks its descriptor for family and type on each access and converts them to enums. uvloop accesses
them five times for a connection. Measured: that is a quarter of the cost of accepting a connection.
"""

import socket

from clusterd.linux.address import Address

_ALL_ADDRESSES = ("0.0.0.0", "::")


class TcpConnection(socket.socket):
    """A connection over IPv4."""

    __slots__ = ()
    family = socket.AF_INET
    type = socket.SOCK_STREAM


class Tcp6Connection(TcpConnection):
    """A connection over IPv6."""

    __slots__ = ()
    family = socket.AF_INET6


class UnixConnection(TcpConnection):
    """A connection over a unix socket."""

    __slots__ = ()
    family = socket.AF_UNIX


_CONNECTIONS = {
    socket.AF_INET: TcpConnection,
    socket.AF_INET6: Tcp6Connection,
    socket.AF_UNIX: UnixConnection,
}


class ListeningSocket(socket.socket):
    """A listening socket, made from its descriptor, which it then owns."""

    __slots__ = ("_kind", "_protocol", "local", "scheme")

    def __init__(self, descriptor: int, scheme: str) -> None:
        super().__init__(fileno=descriptor)
        self.scheme = scheme
        """The protocol of its connections: http or https."""
        self._kind = _CONNECTIONS[self.family]
        self._protocol = self.proto
        self.local: Address | None = None
        """The address that clients connect to, or None on a Unix socket and if it differs between connections."""
        if self.family != socket.AF_UNIX:
            host, port = self.getsockname()[:2]
            self.local = None if host in _ALL_ADDRESSES else (host, port)

    def take(self) -> tuple[socket.socket, Address | None]:
        """Accept a connection. Return it and its peer (None on a Unix socket). Raises OSError as accept(2)."""
        descriptor, peer = self._accept()  # type: ignore[attr-defined]
        kind = self._kind
        connection = kind(kind.family, kind.type, self._protocol, descriptor)
        return connection, None if kind is UnixConnection else peer[:2]

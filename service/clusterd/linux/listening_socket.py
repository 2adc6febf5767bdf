"""Sockets as the acceptor needs them: everything that is the same for all connections of a listener is known once.

Python's own socket asks its descriptor for family and type, and makes enums of them, each time somebody looks;
uvloop looks five times for a connection. Measured: a quarter of what accepting one costs.
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
    """A listening socket by its descriptor, which it takes over."""

    __slots__ = ("_kind", "_protocol", "local", "scheme")

    def __init__(self, descriptor: int, scheme: str) -> None:
        super().__init__(fileno=descriptor)
        self.scheme = scheme
        """What is spoken on its connections: http or https."""
        self._kind = _CONNECTIONS[self.family]
        self._protocol = self.proto
        self.local: Address | None = None
        """The address that clients connect to; None on a unix socket, and where it has to be asked each time."""
        if self.family != socket.AF_UNIX:
            host, port = self.getsockname()[:2]
            self.local = None if host in _ALL_ADDRESSES else (host, port)

    def take(self) -> tuple[socket.socket, Address | None]:
        """The next connection, and its peer's address (None on a unix socket). Raises OSError as accept(2) does."""
        descriptor, peer = self._accept()  # type: ignore[attr-defined]
        kind = self._kind
        connection = kind(kind.family, kind.type, self._protocol, descriptor)
        return connection, None if kind is UnixConnection else peer[:2]

"""Bind the addresses of a configuration, and say what to do about an address that cannot be bound."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

from clusterd.config.model import Address, TcpAddress, UnixAddress, UnixSockets
from clusterd.config.reading.accounts import ID_OF, UnknownAccount
from clusterd.config.settings.schema import BY_KEY
from clusterd.systemd.sockets import address_text

BACKLOG = 2048

_CONTROL_ACCESS = UnixSockets(mode=0o660, owner=None, group=None)


class ListenError(Exception):
    """An address cannot be listened on. The message names the address and what to do."""


def remove(paths: Iterable[Path]) -> None:
    """Remove files. A file that does not exist is ignored."""
    for path in paths:
        path.unlink(missing_ok=True)


class Binder:
    """Binds the sockets that systemd did not pass. Adds the path of each Unix socket to `bound`."""

    def __init__(self, access: UnixSockets, bound: list[Path]) -> None:
        self._access = access
        self._bound = bound

    def bind(self, setting: str, address: Address) -> socket.socket:
        """Bind `address` and listen on it; the socket is non-blocking. Raises ListenError."""
        try:
            sock = _bind_tcp(address) if isinstance(address, TcpAddress) else self._bind_unix(str(address))
        except OSError as error:
            raise ListenError(f"{setting}: cannot listen on {address}: {_advice(error, setting)}") from error
        # O_NONBLOCK belongs to the open socket, so it holds in every process that inherits the socket.
        sock.setblocking(False)
        return sock

    def bind_beside(
        self, addresses: Sequence[Address], given: Sequence[socket.socket], notes: list[str]
    ) -> list[socket.socket]:
        """Listen on each of `addresses` that no socket of the unit (`given`) covers. Raises ListenError."""
        sockets = []
        for address in addresses:
            if any(_covers(sock, address) for sock in given):
                continue
            try:
                sockets.append(self.bind("listen", address))
            except ListenError as error:
                if str(address) != BY_KEY["listen"].default or not _is_in_use(error):
                    raise
                # The configuration may be a copy of the file that clusterd comes with, which has this line.
                notes.append(f"{error}; the sockets of the socket unit are used")
        return sockets

    def bind_control(self, path: Path) -> socket.socket:
        """Create the directory of the control socket and listen on the socket. Raises ListenError."""
        try:
            with contextlib.suppress(FileExistsError):
                # Its parents are not created, so that a mistyped path causes an error.
                path.parent.mkdir(mode=0o700)
        except OSError as error:
            raise ListenError(f"control: cannot make {path.parent}: {error.strerror}") from error
        if path.parent.stat().st_uid not in (os.geteuid(), 0):
            raise ListenError(f"control: {path.parent} belongs to another user; set control: to a path of your own")
        return Binder(_CONTROL_ACCESS, self._bound).bind("control", UnixAddress(str(path)))

    def _bind_unix(self, address: str) -> socket.socket:
        path = Path(address.removeprefix("unix:"))
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if path.is_socket():
                _remove_left_over(path)
            elif path.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            # No client may connect before the owner and the mode are set.
            os.fchmod(sock.fileno(), 0)
            sock.bind(str(path))
            self._bound.append(path)
            self._give_access(path)
            sock.listen(BACKLOG)
        except BaseException:
            sock.close()
            raise
        return sock

    def _give_access(self, path: Path) -> None:
        access = self._access
        owner, group = _id_of("owner", access.owner), _id_of("group", access.group)
        try:
            os.chown(path, owner, group)
        except PermissionError as error:
            key = "owner" if access.owner is not None else "group"
            name = getattr(access, key)
            raise ListenError(f"unix_sockets.{key}: {path} cannot be given to {name}: {error.strerror}") from error
        path.chmod(access.mode)


def _id_of(key: str, name: str | None) -> int:
    """The id of an account; -1 for None, which chown(2) leaves unchanged.

    Raises ListenError if the account no longer exists: it may have been removed since the configuration was read.
    """
    try:
        return -1 if name is None else ID_OF[key](name)
    except UnknownAccount as error:
        raise ListenError(f"unix_sockets.{key}: {error}") from None


def _bind_tcp(address: TcpAddress) -> socket.socket:
    family, kind, protocol, _, where = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # `[::]:80` and `0.0.0.0:80` are two addresses. An operator that wants both configures both.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _covers(sock: socket.socket, address: Address) -> bool:
    """Whether a client that connects to `address` reaches `sock`."""
    if sock.family == socket.AF_UNIX or not isinstance(address, TcpAddress):
        return address_text(sock) == str(address)
    host, port = sock.getsockname()[:2]
    return port == address.port and host in (address.host, "0.0.0.0", "::")


def _is_in_use(error: ListenError) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE


def _remove_left_over(path: Path) -> None:
    """Remove a Unix socket that no process listens on. Raises OSError (EADDRINUSE) if one does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _advice(error: OSError, setting: str) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"the address is in use by another process; give this one another with {setting}: or --{setting}"
        case errno.EEXIST:
            return "there is a file of that name, which is no socket"
        case errno.ENOENT:
            return "its directory does not exist"
        case errno.EACCES:
            return "permission denied; ports below 1024 need systemd's socket activation or CAP_NET_BIND_SERVICE"
        case errno.EADDRNOTAVAIL:
            return "this machine has no such address"
        case _:
            return error.strerror or str(error)

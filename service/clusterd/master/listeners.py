"""The sockets: passed by systemd, or bound here for a role that systemd passed none for.

Made once and never again listened on or closed before the end, whatever happens to workers: the
queue of accepted connections belongs to the socket.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clusterd.config.accounts import ID_OF, UnknownAccount
from clusterd.config.model import Address, Config, TcpAddress, UnixAddress, UnixSockets
from clusterd.systemd.sockets import PassedSocket, Role
from clusterd.wire.messages import MOST_LISTENERS
from clusterd.worker.sockets import ListeningSocket

BACKLOG = 2048
NOTHING_TO_LISTEN_ON = "listen: there is nothing to listen on"
NAME_AN_ADDRESS = "name an address in listen: or in tls.listen:"

_CONTROL_ACCESS = UnixSockets(mode=0o660, owner=None, group=None)

_SETTINGS = {Role.HTTP: "listen", Role.HTTPS: "tls.listen", Role.METRICS: "metrics", Role.CONTROL: "control"}


class ListenError(Exception):
    """An address can not be listened on; the message names it and what to do."""


@dataclass(frozen=True)
class Listeners:
    """Every listening socket by role."""

    http: tuple[ListeningSocket, ...]
    https: tuple[ListeningSocket, ...]
    metrics: tuple[socket.socket, ...]
    control: tuple[socket.socket, ...]
    bound: tuple[ListeningSocket, ...]
    """Those that clients of the application connect to and that systemd did not pass."""
    bound_paths: tuple[Path, ...]
    """Unix sockets that were bound here, and are removed at the end."""
    passed: frozenset[str]
    """The settings that have no say, because systemd passed sockets for their role."""

    def by_setting(self) -> dict[str, tuple[socket.socket, ...]]:
        """The sockets by the setting that names their addresses."""
        return {"listen": self.http, "tls.listen": self.https, "metrics": self.metrics, "control": self.control}

    @property
    def public(self) -> tuple[ListeningSocket, ...]:
        """Those that clients of the application connect to."""
        return (*self.http, *self.https)

    @property
    def has_passed(self) -> bool:
        """Whether systemd has passed some of them."""
        return len(self.bound) < len(self.public)

    def closing(self, kept: Collection[str]) -> tuple[ListeningSocket, ...]:
        """Those that end with this process; systemd keeps the ones it has passed by the names in `kept`."""
        return tuple(each for each in self.public if each in self.bound or each.scheme not in kept)

    def close_bound(self) -> None:
        """Let go of the sockets that were bound here. What systemd passed is systemd's to close."""
        for sock in self.bound:
            sock.close()

    def close(self) -> None:
        """Close everything and remove what was bound."""
        for sock in (*self.public, *self.metrics, *self.control):
            sock.close()
        _remove(self.bound_paths)


def open_listeners(config: Config, passed: Iterable[PassedSocket], control_path: Path) -> Listeners:
    """Passed sockets where there are any for a role, bound ones else. Raises ListenError."""
    by_role: dict[Role, list[socket.socket]] = {role: [] for role in Role}
    for each in passed:
        by_role[each.role].append(each.socket)
    bound: list[Path] = []
    binder = _Binder(config.unix_sockets, bound)
    try:
        http = by_role[Role.HTTP] or [binder.bind("listen", address) for address in config.listen]
        https = by_role[Role.HTTPS] or [binder.bind("tls.listen", address) for address in config.tls.listen]
        metrics = by_role[Role.METRICS] or ([binder.bind("metrics", config.metrics)] if config.metrics else [])
        control = by_role[Role.CONTROL] or [binder.bind_control(control_path)]
        _check(http, https, config)
    except ListenError:
        _remove(bound)
        raise
    for sock in (*http, *https):
        if sock.family != socket.AF_UNIX:
            # Inherited by every connection: a response in several pieces must not wait for acknowledgements.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    decided = frozenset(setting for role, setting in _SETTINGS.items() if by_role[role])
    plain = tuple(ListeningSocket(sock.detach(), Role.HTTP) for sock in http)
    encrypted = tuple(ListeningSocket(sock.detach(), Role.HTTPS) for sock in https)
    return Listeners(
        plain,
        encrypted,
        tuple(metrics),
        tuple(control),
        bound=(*(() if by_role[Role.HTTP] else plain), *(() if by_role[Role.HTTPS] else encrypted)),
        bound_paths=tuple(bound),
        passed=decided,
    )


def _check(http: Sequence[socket.socket], https: Sequence[socket.socket], config: Config) -> None:
    count = len(http) + len(https)
    if config.run is not None:
        if count:
            raise ListenError("run: systemd passes sockets to serve on, and run serves nobody: disable the socket unit")
        return
    if not count:
        raise ListenError(f"{NOTHING_TO_LISTEN_ON}; {NAME_AN_ADDRESS}")
    if count > MOST_LISTENERS:
        raise ListenError(f"listen: {count} addresses to serve on; at most {MOST_LISTENERS} are possible")
    if https and config.tls.certificate is None:
        raise ListenError("tls.certificate: systemd passes a socket named https, and there is no certificate")


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


class _Binder:
    """Binds what systemd did not pass, and notes which files that makes."""

    def __init__(self, access: UnixSockets, bound: list[Path]) -> None:
        self._access = access
        self._bound = bound

    def bind(self, setting: str, address: Address) -> socket.socket:
        """Listen on `address`. Raises ListenError."""
        try:
            sock = _bind_tcp(address) if isinstance(address, TcpAddress) else self._bind_unix(str(address))
        except OSError as error:
            raise ListenError(f"{setting}: can not listen on {address}: {_advice(error, setting)}") from error
        # The flag belongs to the open socket and is shared by every process that inherits it.
        sock.setblocking(False)
        return sock

    def bind_control(self, path: Path) -> socket.socket:
        """Listen on the control socket, and make its directory. Raises ListenError."""
        try:
            with contextlib.suppress(FileExistsError):
                # Its parents not: a mistyped path is to be noticed.
                path.parent.mkdir(mode=0o700)
        except OSError as error:
            raise ListenError(f"control: can not make {path.parent}: {error.strerror}") from error
        if path.parent.stat().st_uid not in (os.geteuid(), 0):
            raise ListenError(f"control: {path.parent} belongs to another user; set control: to a path of your own")
        return _Binder(_CONTROL_ACCESS, self._bound).bind("control", UnixAddress(str(path)))

    def _bind_unix(self, address: str) -> socket.socket:
        path = Path(address.removeprefix("unix:"))
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if path.is_socket():
                _remove_left_over(path)
            elif path.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            # Nobody may connect before everything is as it should be.
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
            raise ListenError(f"unix_sockets.{key}: {path} can not be given to {name}: {error.strerror}") from error
        path.chmod(access.mode)


def _id_of(key: str, name: str | None) -> int:
    """-1 for nobody, which changes nothing (chown(2)). A name may be gone since the configuration was read."""
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
            # `[::]:80` beside `0.0.0.0:80` is two addresses; whoever wants both writes both.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _remove_left_over(path: Path) -> None:
    """Remove a socket that nobody listens on any more. Raises OSError (EADDRINUSE) for one in use."""
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
            return f"the address is in use by another process; give this one another with {setting}:"
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

"""The sockets: passed by systemd, or bound here for a role that systemd passed none for.

Made once and never again listened on or closed before the end, whatever happens to workers: the
queue of accepted connections belongs to the socket.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from clusterd.config.model import Address, Config, TcpAddress, UnixAddress
from clusterd.systemd.sockets import PassedSocket, Role
from clusterd.wire.messages import MOST_LISTENERS
from clusterd.worker.sockets import ListeningSocket

BACKLOG = 2048

_SETTINGS = {Role.HTTP: "listen", Role.METRICS: "metrics", Role.CONTROL: "control"}


class ListenError(Exception):
    """An address can not be listened on; the message names it and what to do."""


@dataclass(frozen=True)
class Listeners:
    """Every listening socket by role."""

    http: tuple[ListeningSocket, ...]
    metrics: tuple[socket.socket, ...]
    control: tuple[socket.socket, ...]
    bound_paths: tuple[Path, ...]
    """Unix sockets that were bound here, and are removed at the end."""
    passed: frozenset[str]
    """The settings that have no say, because systemd passed sockets for their role."""

    def by_setting(self) -> dict[str, tuple[socket.socket, ...]]:
        """The sockets by the setting that names their addresses."""
        return {"listen": self.http, "metrics": self.metrics, "control": self.control}

    def close_bound(self) -> None:
        """Take no new clients: those that connect from now on are refused, instead of waiting for nobody.

        What systemd passed is systemd's to close.
        """
        if "listen" not in self.passed:
            for sock in self.http:
                sock.close()

    def close(self) -> None:
        """Close everything and remove what was bound."""
        for sock in (*self.http, *self.metrics, *self.control):
            sock.close()
        _remove(self.bound_paths)


def open_listeners(config: Config, passed: Iterable[PassedSocket], control_path: Path) -> Listeners:
    """Passed sockets where there are any for a role, bound ones else. Raises ListenError."""
    by_role: dict[Role, list[socket.socket]] = {role: [] for role in Role}
    for each in passed:
        by_role[each.role].append(each.socket)
    paths: list[Path] = []
    try:
        http = by_role[Role.HTTP] or [_bind("listen", address, paths) for address in config.listen]
        metrics = by_role[Role.METRICS] or ([_bind("metrics", config.metrics, paths)] if config.metrics else [])
        control = by_role[Role.CONTROL] or [_bind_control(control_path, paths)]
    except ListenError:
        _remove(paths)
        raise
    for sock in http:
        if sock.family != socket.AF_UNIX:
            # Inherited by every connection: a response in several pieces must not wait for acknowledgements.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if len(http) > MOST_LISTENERS:
        _remove(paths)
        raise ListenError(f"listen: {len(http)} addresses to serve HTTP on; at most {MOST_LISTENERS} are possible")
    decided = frozenset(setting for role, setting in _SETTINGS.items() if by_role[role])
    return Listeners(
        tuple(ListeningSocket(sock.detach()) for sock in http),
        tuple(metrics),
        tuple(control),
        tuple(paths),
        passed=decided,
    )


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _bind_control(path: Path, paths: list[Path]) -> socket.socket:
    try:
        with contextlib.suppress(FileExistsError):
            path.parent.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise ListenError(f"control: can not make {path.parent}: {error.strerror}") from error
    if path.parent.stat().st_uid not in (os.geteuid(), 0):
        raise ListenError(f"control: {path.parent} belongs to another user; set control: to a path of your own")
    sock = _bind("control", UnixAddress(str(path)), paths)
    path.chmod(0o660)
    return sock


def _bind(setting: str, address: Address, paths: list[Path]) -> socket.socket:
    try:
        sock = _bind_tcp(address) if isinstance(address, TcpAddress) else _bind_unix(str(address), paths)
    except OSError as error:
        raise ListenError(f"{setting}: can not listen on {address}: {_advice(error, setting)}") from error
    # The flag belongs to the open socket and is shared by every process that inherits it.
    sock.setblocking(False)
    return sock


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


def _bind_unix(address: str, paths: list[Path]) -> socket.socket:
    path = Path(address.removeprefix("unix:"))
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            _remove_left_over(path)
        elif path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        sock.bind(str(path))
        paths.append(path)
        # As on a TCP port of this machine, everybody may connect whom the directory lets through: a proxy runs as
        # another user. (The control socket's mode is narrower.)
        path.chmod(0o666)
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

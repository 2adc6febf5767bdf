"""Takes over the sockets that systemd opened for clusterd, by the names in their units (sd_listen_fds(3))."""

import importlib
import os
import socket
from collections.abc import Iterable
from enum import StrEnum

from clusterd.records import dataclass
from clusterd.systemd.descriptor_store import is_stored_name
from clusterd.systemd.environment import LISTEN_VARIABLES

_HOW_TO_INSTALL = (
    "systemd passes sockets, and the package systemd-python, which takes them, is not installed: run apt install "
    "python3-systemd or, in a virtual environment, apt install gcc python3-dev pkg-config libsystemd-dev and then "
    "pip install systemd-python (the extra clusterd[systemd])"
)
_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


class Role(StrEnum):
    """The purpose of a listening socket. The value is the unit's `FileDescriptorName=`."""

    HTTP = "http"
    HTTPS = "https"
    METRICS = "metrics"
    CONTROL = "control"
    AGENT = "agent"


class SocketError(Exception):
    """systemd passed sockets that clusterd cannot use. `problems` describes each, and says what to change."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class PassedSocket:
    """A listening socket and its purpose. Several sockets may have the same role."""

    role: Role
    socket: socket.socket

    @property
    def address(self) -> str:
        """The local address, written as in the configuration."""
        return address_text(self.socket)


def passed_sockets() -> tuple[PassedSocket, ...]:
    """Take over the sockets that systemd passed to this process, in systemd's order. Without a socket unit, none.

    What systemd kept for a master is closed, because the caller has no use for it.

    Raises SocketError as `passed_descriptors` and `take_sockets` do.
    """
    passed = passed_descriptors()
    for descriptor in stored_descriptors(passed).values():
        os.close(descriptor)
    return take_sockets(passed)


def passed_descriptors() -> tuple[tuple[int, str], ...]:
    """Return every descriptor that systemd passed to this process, with its name.

    The variables that announced them are removed from the environment, so that no child uses them.

    Raises SocketError: the variables contradict each other, or systemd-python is not installed.
    """
    if "LISTEN_FDS" not in os.environ:
        return ()
    try:
        # pip compiles it, so it is an extra: most environments that pip makes are passed no sockets.
        daemon = importlib.import_module("systemd.daemon")
    except ImportError:
        raise SocketError((_HOW_TO_INSTALL,)) from None
    try:
        names: dict[int, str] = daemon.listen_fds_with_names(unset_environment=True)
    except OSError as error:
        values = ", ".join(f"{name}={os.environ[name]}" for name in LISTEN_VARIABLES if name in os.environ)
        raise SocketError((f"the sockets announced by {values} cannot be taken: {error.strerror}",)) from None
    for variable in LISTEN_VARIABLES:
        # libsystemd removes them only from the C environment, of which os.environ is a copy.
        os.environ.pop(variable, None)
    return tuple(names.items())


def make_non_blocking(passed: Iterable[tuple[int, str]]) -> bool:
    """Set O_NONBLOCK on the sockets of the units, and return whether it was missing on one: NonBlocking=no in the unit.

    That is systemd's default. It clears the flag before each start (flag_fds() in its execute.c), of the open file, and
    so for every process that has the socket.
    """
    units = [descriptor for descriptor, name in passed if not is_stored_name(name)]
    is_missing = any(map(os.get_blocking, units))
    for descriptor in units:
        os.set_blocking(descriptor, False)
    return is_missing


def stored_descriptors(passed: Iterable[tuple[int, str]]) -> dict[str, int]:
    """Return those that an earlier master has stored, by name. They are not inherited by an exec.

    No name is there twice: only the main process can store (NotifyAccess=main), and `DescriptorStore` gives each name
    once, also after a master's death, because the next one goes on behind the largest number.
    """
    stored = {name: descriptor for descriptor, name in passed if is_stored_name(name)}
    for descriptor in stored.values():
        os.set_inheritable(descriptor, False)
    return stored


def take_sockets(passed: Iterable[tuple[int, str]]) -> tuple[PassedSocket, ...]:
    """Check the sockets of the units and return them, non-blocking and not inherited by an exec.

    Do not call listen(2) on them, because their backlog is the unit's `Backlog=`. O_NONBLOCK belongs to the open file,
    which all processes that inherit the socket share. It is set here, once. What comes from the store is left out.

    Raises SocketError: a name is unknown, or a descriptor is not a listening stream socket.
    """
    problems: list[str] = []
    taken: list[PassedSocket] = []
    for descriptor, name in passed:
        if is_stored_name(name):
            continue
        try:
            taken.append(PassedSocket(_role(name), _listening_socket(descriptor)))
        except ValueError as error:
            problems.append(f"socket {name!r} (descriptor {descriptor}) passed by systemd: {error}")
    if problems:
        raise SocketError(tuple(problems))
    return tuple(taken)


def _role(name: str) -> Role:
    try:
        return Role(name)
    except ValueError:
        names = ", ".join(Role)
        raise ValueError(f"unknown name; set FileDescriptorName= in the socket unit to one of {names}") from None


def _listening_socket(descriptor: int) -> socket.socket:
    try:
        # Family and type are read from the descriptor.
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise ValueError(f"not a socket ({error.strerror})") from None
    if sock.type != socket.SOCK_STREAM or sock.family not in _FAMILIES:
        sock.detach()
        raise ValueError("not a TCP or Unix stream socket; use ListenStream= in the socket unit")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()
        raise ValueError("not listening; use Accept=no in the socket unit")
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock


def address_text(sock: socket.socket) -> str:
    """Return the local address of a socket: `127.0.0.1:80`, `[::1]:80`, `unix:/path` or `unix:@abstract`."""
    address = sock.getsockname()
    if sock.family == socket.AF_INET6:
        return f"[{address[0]}]:{address[1]}"
    if sock.family == socket.AF_INET:
        return f"{address[0]}:{address[1]}"
    if isinstance(address, bytes):
        address = "@" + os.fsdecode(address.removeprefix(b"\0"))
    return f"unix:{address}"

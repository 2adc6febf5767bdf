"""The listening sockets: passed by systemd, or bound by the master for a role that systemd passes no socket for.

They are opened once and stay open until the service stops, whatever happens to workers: the backlog belongs to the
socket.
"""

import socket
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clusterd.config.model import Config
from clusterd.linux.listening import refuses_new
from clusterd.linux.listening_socket import ListeningSocket
from clusterd.log import Logger
from clusterd.master.sockets.binding import Binder, ListenError, remove
from clusterd.systemd.expected import NOTHING, Expected
from clusterd.systemd.sockets import PassedSocket, Role, address_text
from clusterd.wire.messages import MOST_LISTENERS

NOTHING_TO_LISTEN_ON = "listen: there is nothing to listen on"
NAME_AN_ADDRESS = "name an address in listen: or in tls.listen:"

_SETTINGS = {
    Role.HTTP: "listen",
    Role.HTTPS: "tls.listen",
    Role.METRICS: "metrics.address",
    Role.CONTROL: "control",
    Role.AGENT: "agent",
}


@dataclass(frozen=True)
class Listeners:
    """Every listening socket, by role."""

    http: tuple[ListeningSocket, ...]
    https: tuple[ListeningSocket, ...]
    metrics: tuple[socket.socket, ...]
    control: tuple[socket.socket, ...]
    bound: tuple[ListeningSocket, ...]
    """The sockets for clients of the application that the master has bound itself."""
    bound_paths: tuple[Path, ...]
    """The Unix sockets that the master has bound, which it removes at the end."""
    passed: frozenset[str]
    """The settings that are not used, because systemd passed sockets for their role."""
    agent: tuple[socket.socket, ...] = ()
    notes: tuple[str, ...] = ()
    """Which configured addresses are not listened on, and why; one line each."""

    def by_setting(self) -> dict[str, tuple[socket.socket, ...]]:
        """The sockets by the setting that names their addresses."""
        return {
            "listen": self.http,
            "tls.listen": self.https,
            "metrics.address": self.metrics,
            "control": self.control,
            "agent": self.agent,
        }

    @property
    def public(self) -> tuple[ListeningSocket, ...]:
        """The sockets for clients of the application."""
        return (*self.http, *self.https)

    @property
    def descriptors(self) -> list[int]:
        """Of every socket."""
        return [each.fileno() for each in (*self.public, *self.of_master)]

    @property
    def of_master(self) -> tuple[socket.socket, ...]:
        """The sockets for the master's own clients."""
        return (*self.metrics, *self.control, *self.agent)

    @property
    def has_passed(self) -> bool:
        """Whether systemd has passed at least one of the public sockets."""
        return len(self.bound) < len(self.public)

    def closing(self, kept: Collection[str]) -> tuple[ListeningSocket, ...]:
        """The public sockets that end with this process. Systemd keeps the passed sockets named in `kept`.

        A passed Unix socket is always left to systemd. Refusing its new clients takes a shutdown(2), which makes it
        readable for ever: systemd 252 then handles only this socket, and hangs.
        """
        return tuple(each for each in self.public if each in self.bound or self._may_be_closed(each, kept))

    def _may_be_closed(self, passed: ListeningSocket, kept: Collection[str]) -> bool:
        return passed.scheme not in kept and passed.family != socket.AF_UNIX

    def close_bound(self) -> None:
        """Close the public sockets that the master has bound. Systemd closes those that it has passed."""
        for sock in self.bound:
            sock.close()

    def close(self) -> None:
        """Close every socket."""
        for sock in (*self.public, *self.of_master):
            sock.close()

    def remove_files(self) -> None:
        """Remove the Unix sockets that the master has bound. Only at the end of the service.

        A master that fails may be followed by another, which serves on with the sockets, and clients need the files.
        """
        remove(self.bound_paths)


def open_listeners(
    config: Config, passed: Iterable[PassedSocket], control_path: Path, expected: Expected = NOTHING
) -> Listeners:
    """Use the passed sockets of each role. For a role without passed sockets, bind the configured addresses.

    An instance also binds its `listen` addresses beside the passed sockets. Raises ListenError, also if a socket unit
    was `expected` to pass a socket and has not.
    """
    by_role: dict[Role, list[socket.socket]] = {role: [] for role in Role}
    for each in passed:
        by_role[each.role].append(each.socket)
    bound: list[Path] = []
    binder = Binder(config.unix_sockets, bound)
    notes: list[str] = []
    try:
        _check_passed(by_role, config, expected, notes)
        given = by_role[Role.HTTP]
        if given and expected.is_instance:
            own = binder.bind_beside(config.listen, given, notes)
        else:
            own = [] if given else [binder.bind("listen", address) for address in config.listen]
        http = [*given, *own]
        https = by_role[Role.HTTPS] or [binder.bind("tls.listen", address) for address in config.tls.listen]
        metrics = by_role[Role.METRICS] or (
            [binder.bind("metrics.address", config.metrics.address)] if config.metrics.address else []
        )
        agent = by_role[Role.AGENT] or ([binder.bind("agent", config.agent)] if config.agent else [])
        control = by_role[Role.CONTROL] or [binder.bind_control(control_path)]
        _check(http, https, config, expected)
    except ListenError:
        remove(bound)
        raise
    for sock in (*http, *https):
        if sock.family != socket.AF_UNIX:
            # Every connection inherits this. A response in several segments must not wait for acknowledgements.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    decided = {setting for role, setting in _SETTINGS.items() if by_role[role]}
    if expected.is_instance:
        decided.discard("listen")
    plain = tuple(ListeningSocket(sock.detach(), Role.HTTP) for sock in http)
    encrypted = tuple(ListeningSocket(sock.detach(), Role.HTTPS) for sock in https)
    return Listeners(
        plain,
        encrypted,
        tuple(metrics),
        tuple(control),
        bound=(*plain[len(given) :], *(() if by_role[Role.HTTPS] else encrypted)),
        bound_paths=tuple(bound),
        passed=frozenset(decided),
        agent=tuple(agent),
        notes=tuple(notes),
    )


def _check_passed(
    by_role: dict[Role, list[socket.socket]], config: Config, expected: Expected, notes: list[str]
) -> None:
    """Raise ListenError for a socket that refuses clients, and for a socket unit that has passed no socket.

    In the latter case nothing is bound in its place. A `run` instance closes the sockets it was passed, with a note.
    """
    for role, sockets in by_role.items():
        for sock in sockets:
            if refuses_new(sock):
                how = "was closed by a stop that was taken back: stop its socket unit, and start it again"
                raise ListenError(f"{_SETTINGS[role]}: {address_text(sock)} {how}")
    if config.run is not None and expected.is_instance and by_role[Role.HTTP]:
        unit = expected.units.get(Role.HTTP, "its socket unit")
        notes.append(f"run serves no clients, and clients of {unit} wait in vain: systemctl mask --now {unit}")
        for sock in by_role[Role.HTTP]:
            sock.close()
        by_role[Role.HTTP] = []
    wanted = {Role.HTTP: config.listen, Role.HTTPS: config.tls.listen, Role.METRICS: config.metrics.address}
    for role, unit in expected.units.items():
        if wanted.get(role) and not by_role[role] and not (role is Role.HTTP and expected.is_instance):
            raise ListenError(_nothing_passed(role, unit))


def _nothing_passed(role: Role, unit: str) -> str:
    return f"{_SETTINGS[role]}: {unit} has passed no socket, and nothing is bound in its place: systemctl status {unit}"


def _run_has_no_clients(unit: str) -> str:
    return (
        f"run: systemd passes sockets, but run serves no clients: systemctl mask --now {unit}; or move the file to "
        "/etc/clusterd/NAME.yaml, and systemctl enable --now clusterd@NAME.service"
    )


def _check(http: Sequence[socket.socket], https: Sequence[socket.socket], config: Config, expected: Expected) -> None:
    count = len(http) + len(https)
    if config.run is not None:
        if count:
            raise ListenError(_run_has_no_clients(expected.units.get(Role.HTTP, "the socket unit")))
        return
    if not count:
        if (unit := expected.units.get(Role.HTTP)) and expected.is_instance:
            raise ListenError(_nothing_passed(Role.HTTP, unit))
        raise ListenError(f"{NOTHING_TO_LISTEN_ON}; {NAME_AN_ADDRESS}")
    if count > MOST_LISTENERS:
        raise ListenError(f"listen: {count} addresses to serve on; at most {MOST_LISTENERS} are possible")
    if https and config.tls.certificate is None:
        raise ListenError("tls.certificate: systemd passes a socket named https, and there is no certificate")


def tell_addresses(listeners: Listeners, config: Config, log: Logger) -> None:
    """Log the addresses that clusterd listens on, and the settings that a socket unit overrides."""
    configured = {
        "listen": config.listen,
        "tls.listen": config.tls.listen,
        "metrics.address": (config.metrics.address,),
        "agent": (config.agent,),
    }
    for setting, sockets in listeners.by_setting().items():
        addresses = [address_text(sock) for sock in sockets]
        passed = setting in listeners.passed
        log.info(f"{setting}: {' '.join(addresses) or 'off'}{' (passed by systemd)' if passed else ''}")
        written = [str(address) for address in configured.get(setting, ()) if address is not None]
        if passed and written and written != addresses:
            log.notice(f"{setting}: {' '.join(written)} is not used: the socket unit sets the addresses")
    for note in listeners.notes:
        log.warning(note)

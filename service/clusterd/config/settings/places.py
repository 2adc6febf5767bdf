"""The kinds of values that are locations: paths, sockets, addresses and networks."""

import ipaddress
import re

from clusterd.config.address import Address, UnixAddress
from clusterd.config.model import JSON
from clusterd.config.settings.kinds import Kind, Refusal

_ADDRESS = r"unix:.*[^/]|\[[^\]]+\]:[0-9]{1,5}|[^:/]+:[0-9]{1,5}"
_NETWORK = r"unix|[0-9]+(\.[0-9]+){3}(/[0-9]{1,2})?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(/[0-9]{1,3})?"
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


def file_path() -> Kind:
    """A path, made absolute. Symbolic links and `..` stay as they are, so that each generation resolves them again."""

    def read(written: str, base: str) -> str:
        if not written:
            raise Refusal
        if written.startswith("~"):
            raise Refusal("~ is not expanded: write the whole path")
        return _joined(base, written)

    return Kind("a path", read, {"type": "string", "minLength": 1})


def socket_path() -> Kind:
    """The path of a Unix socket."""
    path = file_path()

    def read(written: str, base: str) -> str:
        found: str = path.read(written, base)
        try:
            return UnixAddress.from_path(found).path
        except ValueError as error:
            raise Refusal(str(error)) from error

    return Kind("a path", read, path.json_schema)


def secret_path() -> Kind:
    """A file, or a credential that systemd passes: `credential:NAME` (systemd.exec(5), LoadCredential=)."""
    path = file_path()

    def read(written: str, base: str) -> str:
        if not written.startswith("credential:"):
            return str(path.read(written, base))
        if not re.fullmatch(r"credential:[A-Za-z0-9_.\-]{1,255}", written):
            raise Refusal("the credential's name is missing: credential:tls.pem")
        return written

    return Kind("a path, or credential:NAME", read, path.json_schema)


def listen_address() -> Kind:
    """An address to listen on. The path of a Unix socket is made absolute."""

    def read(written: str, base: str) -> Address:
        path = written.removeprefix("unix:")
        is_relative = path != written and path != "" and path[0] not in "/@"
        try:
            return Address.parse(f"unix:{_joined(base, path)}" if is_relative else written)
        except ValueError as error:
            raise Refusal(str(error)) from error

    schema: dict[str, JSON] = {"type": "string", "pattern": f"^({_ADDRESS})$"}
    return Kind("an address: host:port, [v6]:port or unix:/path", read, schema)


def peer_network() -> Kind:
    """The peers that a connection may come from: an address, a network, or `unix` for every peer on a Unix socket."""

    def read(written: str, _base: str) -> str:
        if written == "unix":
            return written
        try:
            network = ipaddress.ip_network(written)
        except ValueError as error:
            raise Refusal(_network_hint(written)) from error
        if not re.fullmatch(_NETWORK, written):
            raise Refusal(f"write {network.with_prefixlen}" if "%" not in written else "without the zone")
        if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
            # IPv4 peers are matched by their IPv4 addresses, also on a socket that accepts both families.
            raise Refusal("write it as IPv4")
        return network.compressed.removesuffix("/32" if network.version == 4 else "/128")

    schema: dict[str, JSON] = {"type": "string", "pattern": f"^({_NETWORK})$"}
    return Kind("an address, a network like 10.0.0.0/8, or unix", read, schema)


def _network_hint(written: str) -> str:
    """Return a guess at what the operator meant, or an empty text."""
    if written.startswith("unix:"):
        return "write unix, which stands for every peer on a Unix socket"
    if written == "*":
        return "write 0.0.0.0/0 and ::/0 for every peer"
    try:
        return f"write {ipaddress.ip_network(written, strict=False)}"
    except ValueError:
        is_name = re.fullmatch(r"[A-Za-z][A-Za-z0-9.\-]*", written)
        return "names are not looked up: write the address" if is_name else ""


def _joined(base: str, path: str) -> str:
    """Make `path` absolute without looking at the file system: `..` after a symbolic link may lead elsewhere."""
    if path.startswith("/"):
        return path
    while path.startswith("./"):
        path = path[2:].lstrip("/")
    return base if path in ("", ".") else f"{base.rstrip('/')}/{path}"

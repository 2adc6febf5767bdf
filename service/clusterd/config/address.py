"""The addresses to listen on, as the configuration writes them: `host:port`, `[v6]:port` or `unix:/path`."""

import re
import socket
from abc import ABC, abstractmethod

from clusterd.records import dataclass

LONGEST_UNIX_PATH = 107  # sun_path is 108 bytes with its terminating NUL: unix(7)
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_NUMERIC = re.compile(r"[0-9.]+")


class Address(ABC):
    """An address to listen on. `str()` returns the text that `parse()` accepts."""

    __slots__ = ()

    @staticmethod
    def parse(text: str) -> "Address":
        """Parse `text`. Raises ValueError, which says what is wrong and what to write instead."""
        if text.startswith("unix:"):
            return UnixAddress.from_path(text.removeprefix("unix:"))
        return TcpAddress.from_text(text)

    @abstractmethod
    def __str__(self) -> str: ...


@dataclass(frozen=True, slots=True)
class TcpAddress(Address):
    """A TCP port; port 0 asks the kernel for a free one.

    `host` is an IPv4 address, an IPv6 address without brackets (with an optional zone: `fe80::1%eth0`), or a name
    to look up.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def from_text(cls, text: str) -> "TcpAddress":
        """Parse `host:port` or `[v6]:port`. Raises ValueError for any other text."""
        if text.isascii() and text.isdigit():
            raise ValueError(
                f"a host is missing: 127.0.0.1:{text} for this machine only, 0.0.0.0:{text} for all of IPv4"
            )
        if "://" in text:
            raise ValueError(f"without the scheme: {text.partition('://')[2].rstrip('/')}")
        host, colon, port = text.rpartition(":")
        if not colon:
            raise ValueError(f"a port is missing: {text or '127.0.0.1'}:8000")
        if not (port.isascii() and port.isdigit() and int(port) <= 65535):
            raise ValueError(f"the port is {port!r}, and must be a number from 0 to 65535")
        return cls(_checked_host(host, port), int(port))


@dataclass(frozen=True, slots=True)
class UnixAddress(Address):
    """A Unix stream socket in the file system."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"

    @classmethod
    def from_path(cls, path: str) -> "UnixAddress":
        """Return the address of the socket file `path`. Raises ValueError if no socket can have that name."""
        if not path or path.endswith("/"):
            raise ValueError("a file name is missing: unix:/run/myapp/http.sock")
        if path.startswith("@") or "\0" in path:
            raise ValueError("abstract sockets are not supported, as anyone may connect to them: use a path")
        length = len(path.encode(errors="surrogateescape"))
        if length > LONGEST_UNIX_PATH:
            raise ValueError(f"the path is {length} bytes long, and the system allows {LONGEST_UNIX_PATH}")
        return cls(path)


def _checked_host(host: str, port: str) -> str:
    if host in ("", "*"):
        raise ValueError(f"a host is missing: 0.0.0.0:{port} for all of IPv4, [::]:{port} for all of IPv6")
    if host.startswith("[") and host.endswith("]"):
        if not _is_address(socket.AF_INET6, host[1:-1].partition("%")[0]):
            raise ValueError(f"{host[1:-1]!r} is not an IPv6 address")
        return host[1:-1]
    if ":" in host:
        raise ValueError(f"an IPv6 address needs brackets: [{host}]:{port}")
    if _NUMERIC.fullmatch(host):
        if not _is_address(socket.AF_INET, host):
            raise ValueError(f"{host!r} is not an IPv4 address")
    elif not _HOST_NAME.fullmatch(host):
        raise ValueError(f"{host!r} is not a host name")
    return host


def _is_address(family: int, text: str) -> bool:
    try:
        socket.inet_pton(family, text)
    except (OSError, ValueError):
        return False
    return True

"""How many connections wait in the kernel's queue of a listening socket, until a process accepts them.

The kernel tells it of a TCP socket by getsockopt(2), and of a Unix socket only by netlink (sock_diag(7)). Both need no
privilege. Netlink needs AF_NETLINK in `RestrictAddressFamilies=` of the unit, and finds only the sockets of this
process's network namespace.
"""

import os
import socket
import struct
from collections.abc import Iterable

from clusterd.records import dataclass
from clusterd.runtime import originals

_TCP_LISTEN = 10
"""The state of a listening socket, also of a Unix socket (include/net/tcp_states.h)."""
_TCP_INFO_COUNTS = struct.Struct("=24xII")
"""tcpi_unacked and tcpi_sacked of struct tcp_info. Of a listening socket they are the queue's length and its limit."""

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence number, port."""
_UNIX_REQUEST = struct.Struct("=BBHIIIII")
"""struct unix_diag_req: family, protocol, padding, states, inode, what to show, and a cookie in two halves."""
_UDIAG_SHOW_RQLEN = 0x10
_NO_COOKIE = 0xFFFFFFFF
_UNIX_ANSWER = struct.Struct("=BBBBIII")
"""struct unix_diag_msg: family, type, state, padding, inode, and a cookie in two halves. The attributes follow."""
_ATTRIBUTE = struct.Struct("=HH")
"""struct nlattr: length and type."""
_UNIX_DIAG_RQLEN = 4
_COUNTS = struct.Struct("=II")
"""struct unix_diag_rqlen. Of a listening socket these are the queue's length and its limit."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """The queue of a listening socket."""

    waiting: int
    """Connections that no process has accepted yet."""
    limit: int
    """The backlog of listen(2), at most net.core.somaxconn. One connection more than this may wait."""

    def __add__(self, other: "Backlog") -> "Backlog":
        return Backlog(self.waiting + other.waiting, self.limit + other.limit)


def backlog(sock: socket.socket) -> Backlog | None:
    """The queue of a listening socket; None if it is closed, does not listen, or the kernel does not tell."""
    try:
        return _unix_backlog(sock) if sock.family == socket.AF_UNIX else _tcp_backlog(sock)
    except OSError:
        return None


def backlogs(sockets: Iterable[tuple[str, socket.socket]]) -> dict[str, Backlog]:
    """The queues by address. Sockets with the same address (SO_REUSEPORT) share its clients, so theirs are added up."""
    found: dict[str, Backlog] = {}
    for address, sock in sockets:
        if (queue := backlog(sock)) is not None:
            found[address] = found[address] + queue if address in found else queue
    return found


def _tcp_backlog(sock: socket.socket) -> Backlog | None:
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_COUNTS.size)
    return Backlog(*_TCP_INFO_COUNTS.unpack(info)) if info[0] == _TCP_LISTEN else None


def _unix_backlog(sock: socket.socket) -> Backlog | None:
    inode = os.fstat(sock.fileno()).st_ino
    wanted = (socket.AF_UNIX, 0, 0, 1 << _TCP_LISTEN, inode, _UDIAG_SHOW_RQLEN, _NO_COOKIE, _NO_COOKIE)
    size = _HEADER.size + _UNIX_REQUEST.size
    request = _HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0) + _UNIX_REQUEST.pack(*wanted)
    with originals.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, _NETLINK_SOCK_DIAG) as netlink:
        netlink.send(request)
        # The kernel has answered when send(2) returns.
        return unix_answer(netlink.recv(4096))


def unix_answer(answer: bytes) -> Backlog | None:
    """The queue in an answer of sock_diag about one Unix socket. None if it is an error, or has no queue."""
    length, kind, *_ = _HEADER.unpack_from(answer)
    if kind != _SOCK_DIAG_BY_FAMILY or _UNIX_ANSWER.unpack_from(answer, _HEADER.size)[2] != _TCP_LISTEN:
        return None
    start = _HEADER.size + _UNIX_ANSWER.size
    while start + _ATTRIBUTE.size <= length:
        size, name = _ATTRIBUTE.unpack_from(answer, start)
        if name == _UNIX_DIAG_RQLEN:
            return Backlog(*_COUNTS.unpack_from(answer, start + _ATTRIBUTE.size))
        start += max(_ATTRIBUTE.size, -(-size // 4) * 4)  # Attributes are aligned to 4 bytes.
    return None

"""Closes a listening socket without resetting a client: it refuses new clients, so that the queue can be emptied first.

When a TCP socket is closed or shut down, the kernel resets the connections in its queue, and a client may join the
queue after the last accept(2). So the socket is bound to a network interface that does not exist (SO_BINDTOIFINDEX,
which since Linux 5.7 needs no privilege if the socket is not bound to an interface). The kernel then finds no listener
for a new client and refuses it. It still completes handshakes that have begun, and the queue can be accepted. For a
Unix socket, shutting down the reading side has the same effect. (A BPF filter, SO_ATTACH_FILTER, was rejected: it would
drop the SYN and not answer it, and newer kernels require CAP_NET_ADMIN for it on TCP.)
"""

import contextlib
import ipaddress
import select
import socket

_SO_BINDTOIFINDEX = 62
"""From asm-generic/socket.h. Python's socket module does not define it."""
_NO_INTERFACE = 0x7FFFFFFF


def refuse_new(sock: socket.socket) -> None:
    """Make the kernel refuse new clients of a listening socket. Clients in its queue can still be accepted.

    This affects every process that shares the socket. It is permanent: it cannot be undone without a privilege. It has
    no effect on a socket that a socket unit has bound to an interface (BindToDevice=). Do not use it for a Unix socket
    that another process polls, as systemd does: the socket is readable from then on.
    """
    with contextlib.suppress(OSError):
        if sock.family == socket.AF_UNIX:
            sock.shutdown(socket.SHUT_RD)
        else:
            sock.setsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX, _NO_INTERFACE)


def refuses_new(sock: socket.socket) -> bool:
    """Return whether some process has made a listening socket refuse its clients."""
    if sock.family != socket.AF_UNIX:
        try:
            return sock.getsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX) == _NO_INTERFACE
        except OSError:
            return False
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))


def is_local(sock: socket.socket) -> bool:
    """Return whether only this machine can connect. The kernel establishes such connections in one step."""
    if sock.family == socket.AF_UNIX:
        return True
    address = ipaddress.ip_address(sock.getsockname()[0].partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback

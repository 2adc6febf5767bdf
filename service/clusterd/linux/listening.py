"""How a listening socket is closed without resetting a client: new clients are refused, then the queue is emptied.

The kernel resets what waits in the queue of a TCP socket that is closed or shut down, and a client may join the queue
after the last accept(2). So the socket is bound to a network interface that does not exist (SO_BINDTOIFINDEX, which
needs no privilege since Linux 5.7 where the socket is bound to none): the kernel finds no listener for a new client
and refuses it, while handshakes that have begun are completed, and the queue can be accepted. Shutting down the reading
side of a Unix socket does the same. (A BPF filter, SO_ATTACH_FILTER, would drop the SYN instead of answering it, and
newer kernels want CAP_NET_ADMIN for it on TCP.)
"""

import contextlib
import ipaddress
import select
import socket

_SO_BINDTOIFINDEX = 62
"""asm-generic/socket.h; Python's socket module does not name it."""
_NO_INTERFACE = 0x7FFFFFFF


def refuse_new(sock: socket.socket) -> None:
    """Have the kernel refuse new clients of a listening socket. Those that are in its queue can still be accepted.

    For every process that shares the socket, and for good: without a privilege this cannot be taken back. It has no
    effect on a socket that a socket unit has bound to an interface (BindToDevice=). Not for a Unix socket that another
    process polls, as systemd does: it is readable from then on.
    """
    with contextlib.suppress(OSError):
        if sock.family == socket.AF_UNIX:
            sock.shutdown(socket.SHUT_RD)
        else:
            sock.setsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX, _NO_INTERFACE)


def refuses_new(sock: socket.socket) -> bool:
    """Whether some process has had a listening socket refuse its clients."""
    if sock.family != socket.AF_UNIX:
        try:
            return sock.getsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX) == _NO_INTERFACE
        except OSError:
            return False
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))


def is_local(sock: socket.socket) -> bool:
    """Whether only this machine can connect: the kernel makes such connections in one go."""
    if sock.family == socket.AF_UNIX:
        return True
    address = ipaddress.ip_address(sock.getsockname()[0].partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback

"""How a listening socket is closed without resetting a client: nobody new comes in, then the queue is emptied.

The kernel resets the connections that wait in the queue of a TCP socket when it is closed or shut down, so between the
last accept(2) and that moment nobody may join the queue. A classic BPF program on the socket (socket(7),
SO_ATTACH_FILTER) sees to it: it drops the SYN of new clients, whose kernel repeats it a second later and is refused
then. All other segments pass, so that handshakes that have begun are completed. Shutting down the reading side of a
Unix socket refuses new clients at once and keeps the queue, so no filter is needed there.
"""

import contextlib
import ctypes
import ipaddress
import socket
import struct

_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27
"""asm-generic/socket.h; Python's socket module does not name them."""

_FLAGS_OFFSET = 13
_SYN = 0x02
_ACK = 0x10
_PROGRAM = (
    # struct sock_filter: code, jump if true, jump if false, operand (linux/filter.h).
    (0x30, 0, 0, _FLAGS_OFFSET),  # BPF_LD | BPF_B | BPF_ABS: the flags of the TCP header, with which a segment begins
    (0x54, 0, 0, _SYN | _ACK),  # BPF_ALU | BPF_AND | BPF_K
    (0x15, 0, 1, _SYN),  # BPF_JMP | BPF_JEQ | BPF_K: a SYN that acknowledges nothing
    (0x06, 0, 0, 0),  # BPF_RET | BPF_K: drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # let anything else pass
)
_MOST_WAITING = 0x7FFF
"""The kernel takes net.core.somaxconn where that is less."""


def is_local(sock: socket.socket) -> bool:
    """Whether only this machine can connect: the kernel makes such connections in one go."""
    if sock.family == socket.AF_UNIX:
        return True
    address = ipaddress.ip_address(sock.getsockname()[0].partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def hold_off(sock: socket.socket) -> None:
    """Let no new client into the queue of a listening socket. Those that are in it can still be accepted.

    This holds for every process that shares the socket, and a Unix socket never listens again.
    """
    if sock.family == socket.AF_UNIX:
        _shut_down(sock, socket.SHUT_RD)
        return
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in _PROGRAM)
    kept = ctypes.create_string_buffer(code)
    # A protocol without filters (MPTCP) has nothing better than to be shut down when its queue looks empty.
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_PROGRAM), ctypes.addressof(kept)))


def refuse(sock: socket.socket) -> None:
    """Have the kernel refuse new clients at once, whoever shares the socket. It resets those still in the queue."""
    if sock.family != socket.AF_UNIX:
        _shut_down(sock, socket.SHUT_RDWR)


def listen_again(sock: socket.socket) -> None:
    """Take back `refuse`, but not `hold_off`: a TCP socket is an idle listening socket again for who else has it."""
    if sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            sock.listen(_MOST_WAITING)


def let_in(sock: socket.socket) -> None:
    """Take back `hold_off` of a TCP socket, by whichever process that was done."""
    if sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):  # there is none, mostly
            sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def _shut_down(sock: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):  # it does not listen any more
        sock.shutdown(how)

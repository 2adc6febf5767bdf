"""Packets over a SOCK_SEQPACKET socketpair. A packet arrives whole or not at all, whichever process dies (unix(7)).

`send` and `receive` are one system call each and work with blocking and non-blocking sockets. They use sendmsg and
recvmsg, because `socket.send_fds` ignores its flags in Python 3.11.
"""

import fcntl
import socket
import struct
import sys
import termios
from array import array
from collections.abc import Sequence
from typing import Any

from clusterd.records import dataclass
from clusterd.runtime import originals
from clusterd.wire.messages import PACKET_BYTES, PACKET_DESCRIPTORS, ProtocolError

_CREDENTIALS = struct.Struct("3i")
_DESCRIPTOR_BYTES = array("i").itemsize
_MOST_SENT = 253
"""The most descriptors that the kernel passes with one packet (SCM_MAX_FD, unix(7)). There is room for all of them: the
kernel closes those without room in `recvmsg`, which may then wait (`close_in_threads`)."""
_ANCILLARY_BYTES = socket.CMSG_SPACE(_MOST_SENT * _DESCRIPTOR_BYTES) + socket.CMSG_SPACE(_CREDENTIALS.size)


class DescriptorsMissing(ProtocolError):
    """A packet came without its descriptors, because this process may not open so many. `packet` is the rest of it."""

    def __init__(self, packet: "Packet") -> None:
        super().__init__("a packet was cut: it came with more descriptors than this process may open")
        self.packet = packet


@dataclass(frozen=True, slots=True)
class Packet:
    """A received packet. The descriptors belong to the receiver."""

    data: bytes
    descriptors: tuple[int, ...]
    pid: int | None
    """The sender's pid as the kernel reports it, if the socket has SO_PASSCRED."""


def socketpair() -> tuple[socket.socket, socket.socket]:
    """Return two connected, non-inheritable SEQPACKET sockets."""
    return originals.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(sock: socket.socket, data: bytes, descriptors: Sequence[int] = ()) -> None:
    """Send one packet. Raises BlockingIOError (non-blocking and full) or OSError (the peer is gone)."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
    sock.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)


def receive(sock: socket.socket) -> Packet | None:
    """Return the next packet, or None if the other side has closed.

    Raises BlockingIOError (non-blocking and empty) and ProtocolError for a truncated packet.
    """
    try:
        data, ancillary, flags, _ = _receive_message(sock)
    except ConnectionResetError:
        # The other end died with unread packets of this side. The kernel reports that once, before the packets that the
        # other end sent last, which say why it died. The end of file follows them.
        data, ancillary, flags, _ = _receive_message(sock)
    descriptors = array("i")
    pid = None
    for level, kind, payload in ancillary:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_RIGHTS:
            descriptors.frombytes(payload[: len(payload) - len(payload) % _DESCRIPTOR_BYTES])
        elif kind == socket.SCM_CREDENTIALS:
            pid = _CREDENTIALS.unpack(payload[: _CREDENTIALS.size])[0]
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        close_all(descriptors)
        if flags & socket.MSG_TRUNC:
            raise ProtocolError("a packet was cut: it was too long")
        raise DescriptorsMissing(Packet(data, (), pid))
    if not data:
        close_all(descriptors)  # An empty packet can have some, and is no end of file then.
        if descriptors:
            raise ProtocolError("a packet was empty")
        return None
    if len(descriptors) > PACKET_DESCRIPTORS:
        close_all(descriptors)
        raise ProtocolError(f"a packet with {len(descriptors)} descriptors; it has at most {PACKET_DESCRIPTORS}")
    return Packet(data, tuple(descriptors), pid)


def _receive_message(sock: socket.socket) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
    return sock.recvmsg(PACKET_BYTES, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)


_in_threads = False
"""Whether this process closes in threads what came with packets, and the sockets on which they came."""


def close_in_threads() -> None:
    """From now on, have `close_all` wait for nothing. For the master, which does not trust those that send to it.

    close(2) waits for what another process has made of the descriptor: a connection with SO_LINGER (socket(7)), a file
    of a network's or of a FUSE file system. It also waits for what is in the packets that a socket has not received.
    """
    global _in_threads
    _in_threads = True


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors that came with a packet and are not needed, or a socket on which packets came."""
    if not descriptors:
        return
    if _in_threads:
        try:
            originals.start_new_thread(_close, (tuple(descriptors),))
        except RuntimeError:  # There are too many threads.
            _close(descriptors)
    else:
        _close(descriptors)


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        originals.close(descriptor)


def is_in_memory(descriptor: int) -> bool:
    """Whether it is a file of memfd_create(2): nothing that is done with one waits for another process.

    Asks nothing of another file's file system, which may not answer. Only files in memory have seals (fcntl(2)).
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError:
        return False
    return True


def arrived_bytes(sock: socket.socket) -> int:
    """Return how many bytes are in the packets that wait to be received (FIONREAD, unix(7))."""
    return int.from_bytes(fcntl.ioctl(sock, termios.FIONREAD, bytes(4)), sys.byteorder)


def peer_pid(channel: socket.socket) -> int:
    """Return the pid of the process that created the channel (SO_PEERCRED of unix(7)), which is the master."""
    pid: int = struct.unpack("3i", channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))[0]
    return pid

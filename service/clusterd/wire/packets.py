"""Packets over a SOCK_SEQPACKET socketpair. A packet arrives whole or not at all, whichever process dies (unix(7)).

`send` and `receive` are one system call each and work with blocking and non-blocking sockets. They use sendmsg and
recvmsg, because `socket.send_fds` ignores its flags in Python 3.11.
"""

import socket
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clusterd.runtime import originals
from clusterd.wire.messages import PACKET_BYTES, PACKET_DESCRIPTORS, ProtocolError

_CREDENTIALS = struct.Struct("3i")
_DESCRIPTOR_BYTES = array("i").itemsize
_ANCILLARY_BYTES = socket.CMSG_SPACE(PACKET_DESCRIPTORS * _DESCRIPTOR_BYTES) + socket.CMSG_SPACE(_CREDENTIALS.size)


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
        return None
    return Packet(data, tuple(descriptors), pid)


def _receive_message(sock: socket.socket) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
    return sock.recvmsg(PACKET_BYTES, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors that came with a packet and are not needed."""
    for descriptor in descriptors:
        originals.close(descriptor)


def peer_pid(channel: socket.socket) -> int:
    """Return the pid of the process that created the channel (SO_PEERCRED of unix(7)), which is the master."""
    pid: int = struct.unpack("3i", channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))[0]
    return pid

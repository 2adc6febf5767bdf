"""The journal's native protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/), implemented without libsystemd.

The application's own interpreter may have no python3-systemd, and its `journal.send` blocks.
"""

import errno
import fcntl
import functools
import os
import socket
import struct
from collections.abc import Iterator, Mapping

from clusterd.log.record import Record
from clusterd.runtime import originals
from clusterd.service_name import INSTANCE, SERVICE

JOURNAL_SOCKET = "/run/systemd/journal/socket"
_INSTANCE = b"" if INSTANCE is None else b"CLUSTERD_INSTANCE=%s\n" % INSTANCE.encode()
_SOURCE = b"SYSLOG_IDENTIFIER=%s\n" % SERVICE.encode() + _INSTANCE
"""The fields of every entry. The identifier is the first word of a line that journalctl prints."""

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def encode(record: Record) -> Iterator[bytes]:
    """Yield the datagram of a record. Several lines are one message, so that a traceback is one entry."""
    header = b"PRIORITY=%d\n" % record.level + _SOURCE
    fields = b"".join(_field(_field_name(name), value) for name, value in record.pairs())
    yield _field(b"MESSAGE", "\n".join(record.lines())) + header + fields


def entry(message: str, priority: int, fields: Mapping[str, object]) -> bytes:
    """Return the datagram of a message with fields of any name. Those that are None are left out."""
    given = b"".join(_field(name.encode(), str(value)) for name, value in fields.items() if value is not None)
    return _field(b"MESSAGE", message) + b"PRIORITY=%d\n" % priority + _SOURCE + given


@functools.lru_cache(maxsize=256)
def _field_name(name: str) -> bytes:
    return f"CLUSTERD_{name.upper()}"[:64].encode("ascii", "replace")


def _field(name: bytes, value: str) -> bytes:
    data = value.encode("utf-8", "backslashreplace")
    if b"\n" in data:
        return name + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return name + b"=" + data + b"\n"


class JournalWriter:
    """Sends datagrams to journald. An entry that exceeds a datagram is sent as a sealed memfd.

    The socket is not connected, so it keeps working after journald restarts.
    """

    def __init__(self, path: str = JOURNAL_SOCKET) -> None:
        self._path = path
        self._open()

    def _open(self) -> None:
        self._socket = originals.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def send(self, payload: bytes) -> bool:
        """Send one entry. Return False if journald is busy or absent."""
        try:
            self._socket.sendto(payload, self._path)
        except OSError as error:
            if error.errno == errno.EBADF:  # The application has closed the socket (`os.closerange`).
                self._socket.detach()
                self._open()
                return self.send(payload)
            return error.errno in (errno.EMSGSIZE, errno.ENOBUFS) and self._send_memfd(payload)
        return True

    def _send_memfd(self, payload: bytes) -> bool:
        try:
            descriptor = os.memfd_create("clusterd-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError:
            return False
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(payload)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            # Not socket.send_fds, which ignores its address argument in Python 3.11.
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", descriptor))
            self._socket.sendmsg([], [rights], 0, self._path)
        except OSError:
            return False
        finally:
            originals.close(descriptor)
        return True

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

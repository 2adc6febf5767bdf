"""Writes log lines to stderr, for a terminal, a container's runtime, or a file."""

import errno
import fcntl
import os
import select
import socket
import stat
import sys
import termios
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from clusterd.log.record import Level, Record
from clusterd.runtime import originals
from clusterd.service_name import SERVICE

# POSIX: a write of at most this size is atomic, even if all workers share one pipe.
ATOMIC_BYTES = select.PIPE_BUF


def time_text(seconds: float) -> str:
    """Return a time in UTC as `2026-11-23T09:00:00.123Z`."""
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat(timespec='milliseconds')[:-6]}Z"


class LineEncoder:
    """Formats each line of a record as `2026-11-23T09:00:00.123Z clusterd[42] error: message key=value`.

    In an instance it is `clusterd@NAME[42]`.

    Every line names its process, so that mixed lines of several processes can be told apart. A bare record is a line as
    it is.
    """

    def __init__(self, clock: Callable[[], float] = time.time, process: Callable[[], int] = os.getpid) -> None:
        self._clock = clock
        self._process = process

    def __call__(self, record: Record) -> Iterator[bytes]:
        """Yield the lines of the record in payloads. Each payload has as many lines as can be written atomically."""
        if record.is_bare:
            yield record.message.encode("utf-8", "backslashreplace") + b"\n"
            return
        level = Level(record.level).name.lower()
        prefix = f"{time_text(self._clock())} {SERVICE}[{self._process()}] {level}: ".encode()
        payload = b""
        for line in record.lines():
            for piece in _pieces(line.encode("utf-8", "backslashreplace"), ATOMIC_BYTES - len(prefix) - 1):
                if len(payload) + len(prefix) + len(piece) + 1 > ATOMIC_BYTES:
                    yield payload
                    payload = b""
                payload += prefix + piece + b"\n"
        yield payload


def _pieces(line: bytes, size: int) -> Iterator[bytes]:
    """Split the line into pieces of at most `size` bytes, without splitting a UTF-8 character."""
    while len(line) > size:
        end = size
        while line[end] & 0xC0 == 0x80:
            end -= 1
        yield line[:end]
        line = line[end:]
    yield line


class DescriptorWriter:
    """Writes to a descriptor that other processes share, without ever waiting for its reader.

    The descriptor itself cannot be made non-blocking: the flag belongs to the open file, and the application's print()
    would fail. So a pipe or a terminal is opened again through /proc, and a socket is written to with MSG_DONTWAIT. If
    the file cannot be opened again (another user's terminal), poll() tells whether a small write fits. In that case two
    processes may see the same free space, and one of them waits for the reader.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll: select.poll | None = None
        self._socket: socket.socket | None = None
        self._begun: bytes | None = None
        self._written = 0
        self._pipe_size = 0
        self._open()

    def _open(self) -> None:
        descriptor = self._descriptor
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISSOCK(mode):
            self._socket = originals.socket(fileno=fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3))
            self._own = self._socket.fileno()
        elif stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            self._own = self._open_again(descriptor)
            if stat.S_ISFIFO(mode):
                self._pipe_size = fcntl.fcntl(self._own, fcntl.F_GETPIPE_SZ)
        else:
            # Not opened again: a file opened without O_APPEND has an offset that print() must share.
            self._own = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)

    def _open_again(self, descriptor: int) -> int:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        try:
            return os.open(f"/proc/self/fd/{descriptor}", flags)
        except OSError:
            own = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
            self._poll = originals.poll()
            self._poll.register(own, select.POLLOUT)
            return own

    def send(self, payload: bytes) -> bool:
        """Write one payload. Return False if it does not fit now. A part that was written is not written twice."""
        if payload is not self._begun:
            # After a fork this is also true: the parent finishes the payload that it has begun.
            self._begun, self._written = payload, 0
        if self._poll and not any(events & select.POLLOUT for _, events in self._poll.poll(0)):
            return False
        if len(payload) > ATOMIC_BYTES and self._pipe_size and not self._written and not self._fits_pipe(len(payload)):
            return False
        try:
            self._written += self._write(payload[self._written :])
        except OSError as error:
            return error.errno == errno.EBADF and self._is_open_again() and self.send(payload)
        return self._written == len(payload)

    def _is_open_again(self) -> bool:
        """The application has closed the own descriptor (`os.closerange`). Whether there is another one now."""
        if self._socket is not None:
            self._socket.detach()
        self._socket = self._poll = None
        try:
            self._open()
        except OSError:
            return False
        return True

    def _fits_pipe(self, size: int) -> bool:
        """Whether a pipe has room for more than what is always written in one piece, so that nothing comes in between.

        A pipe consists of pages, and lines may leave as much as half of each of them empty.
        """
        count = fcntl.ioctl(self._own, termios.FIONREAD, bytes(4))
        return 2 * int.from_bytes(count, sys.byteorder) + size <= max(self._pipe_size, size)

    def _write(self, data: bytes) -> int:
        if self._socket:
            return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        return os.write(self._own, data)

    def close(self) -> None:
        """Close the own descriptor. The original descriptor stays open."""
        if self._socket:
            self._socket.close()
        else:
            originals.close(self._own)

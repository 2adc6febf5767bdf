"""What the application prints: standard output and error that fail no request, and that follow journald.

systemd connects both to a stream of journald. A journald that is stopped and started again has closed it: from then on
every write to it fails with EPIPE, in every process that has inherited it, and in what these start. So a stream that
is closed is opened again, by the protocol of sd_journal_stream_fd(3), and put in the place of the old one by dup2(2).

Whatever a destination does, a print raises nothing: of what a journald, a pipe or a full disk does not take, a few KiB
are kept and the rest is dropped. How much that was is said as soon as the destination takes something again.
"""

import errno
import io
import os
import select
import socket
import sys
from collections import deque
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

from clusterd.log.destination import is_journal_stream
from clusterd.log.journal import IDENTIFIER
from clusterd.log.record import Level

JOURNAL_STREAM_SOCKET = "/run/systemd/journal/stdout"
PATIENCE_SECONDS = 1.0
"""How long a destination may take nothing that could be waited for; then nothing waits until it has taken something."""

_HEADER = f"{IDENTIFIER}\n\n{Level.INFO:d}\n1\n0\n0\n0\n".encode()
"""Identifier, unit (journald knows it by the control group), priority, whether lines may begin with one such as `<3>`,
and whether to forward to syslog, to kmsg and to the console (stdout_stream_line in systemd's journald-stream.c)."""
_CLOSED = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN})
_STANDARD = {"stdout": 1, "stderr": 2}
_MOST_BYTES = 64 * 1024
"""Fit a socket that poll(2) calls writable."""


class JournalStream:
    """The stream that $JOURNAL_STREAM names (systemd.exec(5)): standard output, error or both of this process.

    `path` is where journald accepts one.
    """

    def __init__(self, environ: MutableMapping[str, str], path: str) -> None:
        self._environ = environ
        self._path = path

    def descriptors(self) -> list[int]:
        """Which it is; not those that somebody has redirected since."""
        name = self._environ.get("JOURNAL_STREAM", "")
        return [each for each in _STANDARD.values() if is_journal_stream(name, each)]

    def mend(self) -> None:
        """Open it again where journald has closed it."""
        if any(_is_closed(each) for each in self.descriptors()):
            self.reopen()

    def reopen(self) -> bool:
        """Put a new stream in its place, also for the children to come; False where journald does not answer.

        Threads may do so at the same time: the last one's stream is the one that stays.
        """
        try:
            with _connect(self._path) as fresh:
                status = os.fstat(fresh.fileno())
                for each in self.descriptors():
                    os.dup2(fresh.fileno(), each)
        except OSError:
            return False
        self._environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
        return True


def _connect(path: str) -> socket.socket:
    """A stream to journald. Raises OSError; does not wait for a journald that does not accept."""
    fresh = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        fresh.setblocking(False)
        fresh.connect(path)
        fresh.shutdown(socket.SHUT_RD)
        fresh.sendall(_HEADER)
        fresh.setblocking(True)
    except OSError:
        fresh.close()
        raise
    return fresh


def _is_closed(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, 0)
    return bool(poll.poll(0))  # POLLHUP and POLLERR are always told


class OutputBuffer(io.BufferedWriter):
    """The buffer below sys.stdout or sys.stderr.

    The file below it is Python's own: nothing but the handler of a signal runs while the buffer is locked. What such a
    handler prints then, for which Python raises a RuntimeError, is written after what it has interrupted.
    """

    def __init__(self, raw: io.RawIOBase, journal: JournalStream | None) -> None:
        super().__init__(raw)
        self._journal = journal
        self._held = 0
        """Bytes in the buffer, at most."""
        self._lost = 0
        """Bytes that nobody has been told of."""
        self._deferred: deque[bytes] = deque()
        """What handlers have printed meanwhile."""
        self._is_stuck = False

    def write(self, data: Any, /) -> int:
        """Write it, or as much as the destination takes; returns how much it was given."""
        size = len(data) if type(data) is bytes else memoryview(data).nbytes
        if not self._lost and self._held + size <= io.DEFAULT_BUFFER_SIZE:  # as good as always
            try:
                super().write(data)
            except RuntimeError:
                self._deferred.append(bytes(data))
            except OSError:  # other threads have filled it meanwhile
                self._lost += size
            else:
                self._held += size
            return size
        payload = memoryview(data).cast("B")
        if self._lost and self._flush():
            lost, self._lost = self._lost, 0
            self._write(memoryview(f"clusterd: {lost} bytes of output were lost\n".encode()))
        if self._lost:
            self._lost += size
        else:
            self._write(payload)
        return size

    def flush(self) -> None:
        """Write what is held, or as much as the destination takes."""
        while self._flush() and self._deferred:
            with suppress(IndexError):  # a handler has been quicker
                self._write(memoryview(self._deferred.popleft()))

    def _write(self, left: memoryview) -> None:
        """What the buffer takes is written later; what neither takes is lost."""
        while left:
            piece = left[:_MOST_BYTES]
            if self._held + len(piece) > io.DEFAULT_BUFFER_SIZE and not self._flush():
                break
            try:
                super().write(piece)
            except BlockingIOError as error:  # somebody has made the pipe a non-blocking one
                self._held += error.characters_written
                left = left[error.characters_written :]
                continue
            except RuntimeError:
                self._deferred.append(bytes(left))
                return
            except OSError:
                break
            self._held += len(piece)
            left = left[len(piece) :]
        self._lost += len(left)

    def _flush(self) -> bool:
        """Whether nothing is held any more."""
        has_reopened = False
        while not (self._journal is not None and self._held and not self._is_ready()):
            try:
                super().flush()
            except BlockingIOError:
                if not self._is_ready():
                    return False
            except RuntimeError:
                return False
            except OSError as error:
                if self._journal is None or has_reopened or error.errno not in _CLOSED:
                    return False
                has_reopened = True
                self._journal.reopen()
            else:
                self._held = 0
                return True
        return False

    def _is_ready(self) -> bool:
        """Whether the destination takes something, which is waited for once."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLOUT)
        self._is_stuck = not poll.poll(0 if self._is_stuck else PATIENCE_SECONDS * 1000)
        return not self._is_stuck


_journal: JournalStream | None = None
"""Of this process, as its standard output and error are."""


def protect_output(environ: MutableMapping[str, str], *, whole_lines: bool = True) -> None:
    """Have sys.stdout and sys.stderr write so, where they are what Python has made them.

    `whole_lines`: whoever else writes to the same pipe, and with nothing left in a buffer for a fork to copy. What can
    not be encoded is escaped, as it is on sys.stderr anyway: that is no reason to fail a request either.
    """
    global _journal
    stream = JournalStream(environ, JOURNAL_STREAM_SOCKET)
    is_journal = stream.descriptors()
    _journal = stream if is_journal else None
    for name, descriptor in _STANDARD.items():
        old = getattr(sys, name)
        if not _is_standard(old, descriptor):
            continue
        old.flush()
        raw = io.FileIO(descriptor, "wb", closefd=False)
        raw.name = old.name
        fresh = io.TextIOWrapper(
            OutputBuffer(raw, stream if descriptor in is_journal else None),
            encoding=old.encoding,
            errors="backslashreplace",
            newline="\n",
            line_buffering=whole_lines or old.line_buffering,
            write_through=old.write_through,
        )
        fresh.mode = "w"  # type: ignore[misc] # as Python does it
        setattr(sys, name, fresh)
        setattr(sys, f"__{name}__", fresh)


def _is_standard(stream: object, descriptor: int) -> bool:
    """Not where there is none, and not what a program has put in its place."""
    try:
        return type(stream) is io.TextIOWrapper and stream.fileno() == descriptor
    except (OSError, ValueError):
        return False


def mend_output() -> None:
    """Open the stream to journald again where it is closed: for what writes to it without us, such as a child."""
    if _journal is not None:
        _journal.mend()

"""Standard output and error for the application. Printing never fails a request, and survives a restart of journald.

systemd connects both to a stream of journald. When journald is stopped and started again, it closes the stream: from
then on every write fails with EPIPE, in every process that has inherited the stream, and in their children. So a closed
stream is opened again, by the protocol of sd_journal_stream_fd(3), and replaces the old one by dup2(2).

A print raises nothing, whatever the destination does. If journald, a pipe or a full disk does not accept output, a few
KiB are kept and the rest is dropped. The number of lost bytes is printed as soon as the destination accepts output
again.
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
from threading import get_ident
from typing import Any

from clusterd.log.application_records import send_records
from clusterd.log.destination import is_journal_stream
from clusterd.log.journal import JournalWriter
from clusterd.log.record import Level
from clusterd.runtime import originals
from clusterd.service_name import SERVICE

JOURNAL_STREAM_SOCKET = "/run/systemd/journal/stdout"
PATIENCE_SECONDS = 1.0
"""How long a write waits for a destination. After that, no write waits until the destination has accepted output."""

_HEADER = f"{SERVICE}\n\n{Level.INFO:d}\n1\n0\n0\n0\n".encode()
"""The header of a stream: identifier, unit (journald knows it by the control group), priority, whether lines may begin
with a priority such as `<3>`, and whether to forward to syslog, kmsg and the console (stdout_stream_line in systemd's
journald-stream.c)."""
_CLOSED = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN})
_STANDARD = {"stdout": 1, "stderr": 2}
_MOST_BYTES = 64 * 1024
"""The largest single write. It fits a socket that poll(2) reports as writable."""


class JournalStream:
    """The stream that $JOURNAL_STREAM names (systemd.exec(5)): standard output, error or both of this process.

    `path` is the socket on which journald accepts streams.
    """

    def __init__(self, environ: MutableMapping[str, str], path: str) -> None:
        self._environ = environ
        self._path = path

    def descriptors(self) -> list[int]:
        """Return the descriptors that are connected to the stream, without those that were redirected since."""
        name = self._environ.get("JOURNAL_STREAM", "")
        return [each for each in _STANDARD.values() if is_journal_stream(name, each)]

    def mend(self) -> None:
        """Open the stream again if journald has closed it."""
        if any(_is_closed(each) for each in self.descriptors()):
            self.reopen()

    def reopen(self) -> bool:
        """Replace the stream by a new one, also for future children. Return False if journald does not answer.

        Several threads may call it at the same time. The stream of the last one stays.
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
    """Open a stream to journald. Raises OSError. It does not wait for a journald that does not accept."""
    fresh = originals.socket(socket.AF_UNIX, socket.SOCK_STREAM)
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
    poll = originals.poll()
    poll.register(descriptor, 0)
    return bool(poll.poll(0))  # poll always reports POLLHUP and POLLERR


class OutputBuffer(io.BufferedWriter):
    """The buffer below sys.stdout or sys.stderr.

    The file below the buffer is Python's own, so only a signal handler can run while the buffer is locked. If such a
    handler prints, Python raises RuntimeError. Its output is kept and written after the interrupted output.
    """

    def __init__(self, raw: io.RawIOBase, journal: JournalStream | None) -> None:
        super().__init__(raw)
        self._journal = journal
        self._held = 0
        """Bytes in the buffer, at most."""
        self._lost = 0
        """Lost bytes that were not reported yet."""
        self._deferred: deque[bytes] = deque()
        """Output of signal handlers that interrupted a write."""
        self._is_stuck = False

    def write(self, data: Any, /) -> int:
        """Write as much as the destination accepts, and return the size of `data`."""
        size = len(data) if type(data) is bytes else memoryview(data).nbytes
        if not self._lost and self._held + size <= io.DEFAULT_BUFFER_SIZE:  # the usual case
            try:
                super().write(data)
            except RuntimeError:
                self._deferred.append(bytes(data))
            except OSError:  # other threads have filled the buffer meanwhile
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
        """Write as much of the buffer as the destination accepts."""
        while self._flush() and self._deferred:
            with suppress(IndexError):  # a signal handler has taken it
                self._write(memoryview(self._deferred.popleft()))

    def _write(self, left: memoryview) -> None:
        """Write the data or buffer it. What does not fit the destination or the buffer is lost."""
        while left:
            piece = left[:_MOST_BYTES]
            if self._held + len(piece) > io.DEFAULT_BUFFER_SIZE and not self._flush():
                break
            try:
                super().write(piece)
            except BlockingIOError as error:  # another process has made the pipe non-blocking
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
        """Flush the buffer and return whether it is empty."""
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

    @property
    def is_journal(self) -> bool:
        """Whether this is still the journal. The program may have connected the descriptor with something else."""
        return self._journal is not None and self.fileno() in self._journal.descriptors()

    def _is_ready(self) -> bool:
        """Return whether the destination accepts output. It is waited for once."""
        poll = originals.poll()
        poll.register(self.fileno(), select.POLLOUT)
        self._is_stuck = not poll.poll(0 if self._is_stuck else PATIENCE_SECONDS * 1000)
        return not self._is_stuck


class LineStream(io.TextIOWrapper):
    """sys.stdout or sys.stderr. Passes on whole lines.

    A print with several arguments is several writes. Those of a thread wait here for the end of its line, so that lines
    of several threads or, with PYTHONUNBUFFERED, of several processes do not mix.
    """

    def __init__(self, buffer: OutputBuffer, **settings: Any) -> None:
        super().__init__(buffer, **settings)
        self._begun: dict[int, str] = {}
        """The beginnings of lines, by thread."""

    def write(self, text: str, /) -> int:
        """Write the complete lines of `text`, and keep the rest."""
        thread = get_ident()
        line = self._begun.pop(thread, "") + text
        end = line.rfind("\n") + 1
        if len(line) - end >= _MOST_BYTES:
            end = len(line)
        if end < len(line):
            self._begun[thread] = line[end:]
        if end:
            super().write(line[:end])
        return len(text)

    def flush(self) -> None:
        """Write what this thread has begun, too."""
        if begun := self._begun.pop(get_ident(), ""):
            super().write(begun)
        super().flush()

    def flush_all(self) -> None:
        """Write what every thread has begun. Called at the end of the process."""
        while self._begun:
            with suppress(KeyError):  # another thread has written it
                super().write(self._begun.popitem()[1])
        super().flush()


_journal: JournalStream | None = None
"""The stream to which this process's standard output or error is connected."""


def protect_output(environ: MutableMapping[str, str], *, whole_lines: bool = True) -> None:
    """Replace sys.stdout and sys.stderr by such buffers, unless the program has already replaced them.

    With `whole_lines` every line is flushed, so that lines of several processes on a pipe do not mix, and a fork copies
    no buffered text. Characters that cannot be encoded are escaped, as Python does for sys.stderr: they must not fail a
    request either.
    """
    global _journal
    stream = JournalStream(environ, JOURNAL_STREAM_SOCKET)
    is_journal = stream.descriptors()
    _journal = stream if is_journal else None
    if is_journal:
        send_records(JournalWriter(), _is_journal)
    for name, descriptor in _STANDARD.items():
        old = getattr(sys, name)
        if not _is_standard(old, descriptor):
            continue
        old.flush()
        raw = io.FileIO(descriptor, "wb", closefd=False)
        raw.name = old.name
        fresh = LineStream(
            OutputBuffer(raw, stream if descriptor in is_journal else None),
            encoding=old.encoding,
            errors="backslashreplace",
            newline="\n",
            line_buffering=whole_lines or old.line_buffering,
            write_through=old.write_through,
        )
        fresh.mode = "w"  # type: ignore[misc] # Python sets it too
        setattr(sys, name, fresh)
        setattr(sys, f"__{name}__", fresh)


def _is_journal(stream: object) -> bool:
    return isinstance(stream, LineStream) and isinstance(stream.buffer, OutputBuffer) and stream.buffer.is_journal


def _is_standard(stream: object, descriptor: int) -> bool:
    """Return whether the stream is Python's own, and neither missing nor replaced by the program."""
    try:
        return type(stream) is io.TextIOWrapper and stream.fileno() == descriptor
    except (OSError, ValueError):
        return False


def mend_output() -> None:
    """Open a closed stream to journald again, for writers that do not use these buffers, such as a child."""
    if _journal is not None:
        _journal.mend()

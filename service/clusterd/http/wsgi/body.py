"""The body of a request. It is received completely before the call, into memory or a file."""

import tempfile
from collections.abc import Callable
from io import BytesIO
from typing import IO, Any, cast

from clusterd.http.messages.given import number

MEMORY_LIMIT = 64 * 1024
"""Maximum bytes of a body in memory. A longer body goes to an unlinked file, so that uploads cost no memory."""


class Body:
    """A body that is being received. Methods raise OSError if the file cannot be created or the disk is full."""

    __slots__ = ("file", "size")

    def __init__(self, expected: int = 0) -> None:
        self.file: IO[bytes] = BytesIO() if expected <= MEMORY_LIMIT else tempfile.TemporaryFile()  # noqa: SIM115
        self.size = 0

    def write(self, data: bytes) -> None:
        """Add received bytes."""
        self.size += len(data)
        if self.size > MEMORY_LIMIT and isinstance(self.file, BytesIO):
            memory = self.file
            self.file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
            self.file.write(memory.getbuffer())
        self.file.write(data)

    def end(self) -> None:
        """The body is complete. Rewind it for the reader."""
        self.file.seek(0)

    @property
    def is_full(self) -> bool:
        """Always False: a long body goes to the disk."""
        return False

    def close(self) -> None:
        """Free the memory or disk space. May be called more than once."""
        try:
            self.file.close()
        except OSError:
            pass  # The disk is full, and flushing the file's buffer fails again. The body is not needed any more.


class BodyReader:
    """`wsgi.input` (PEP 3333): reads a received body, like an `io.BufferedReader`. Each read counts as progress of the
    application's thread.
    """

    __slots__ = ("_file", "_note_progress")

    def __init__(self, file: IO[bytes], note_progress: Callable[[], None]) -> None:
        self._file = file
        self._note_progress = note_progress

    def read(self, size: object = -1, /) -> bytes:
        """Read up to `size` bytes, or everything if `size` is negative or None. Empty at the end."""
        self._note_progress()
        return self._file.read(_size(size))

    def read1(self, size: object = -1, /) -> bytes:
        """The same: the body is complete, so a read never waits."""
        return self.read(size)

    def readinto(self, buffer: object, /) -> int:
        """Read into a writable buffer. Returns the number of bytes; 0 at the end."""
        self._note_progress()
        return cast(int, cast(Any, self._file).readinto(buffer))

    def readinto1(self, buffer: object, /) -> int:
        """The same."""
        return self.readinto(buffer)

    def readline(self, size: object = -1, /) -> bytes:
        """Read the next line, or at most `size` bytes of it."""
        self._note_progress()
        return self._file.readline(_size(size))

    def readlines(self, hint: object = -1, /) -> list[bytes]:
        """Read the remaining lines, or as many as make up `hint` bytes."""
        self._note_progress()
        return self._file.readlines(_size(hint))

    def __iter__(self) -> "BodyReader":
        return self

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def seek(self, offset: object, whence: object = 0, /) -> int:
        """Move to another position. Possible because the body is complete; it allows parsers to read it twice."""
        return self._file.seek(number(offset, "wsgi.input: an offset"), number(whence, "wsgi.input: whence"))

    def tell(self) -> int:
        """Return the position of the next read."""
        return self._file.tell()

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def writable(self) -> bool:
        """False."""
        return False

    def isatty(self) -> bool:
        """False."""
        return False

    @property
    def closed(self) -> bool:
        """Whether the response is over, and the body with it."""
        return self._file.closed

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing: the server closes the body. An `io.TextIOWrapper` over it calls this when it goes."""


def _size(given: object) -> int:
    return -1 if given is None else number(given, "wsgi.input: a size")

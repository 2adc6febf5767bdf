"""The body of a request: received whole before the application is called, then read from memory or a file."""

import tempfile
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import IO

MEMORY_LIMIT = 64 * 1024
"""Bytes of a body kept in memory; a longer one goes to an unlinked file, so that uploads cost no memory."""


class Body:
    """A body on its way in. Raises OSError when the file cannot be made or the disk is full."""

    __slots__ = ("file", "size")

    def __init__(self, expected: int = 0) -> None:
        self.file: IO[bytes] = BytesIO() if expected <= MEMORY_LIMIT else tempfile.TemporaryFile()  # noqa: SIM115
        self.size = 0

    def write(self, data: bytes) -> None:
        """Add what was received."""
        self.size += len(data)
        if self.size > MEMORY_LIMIT and isinstance(self.file, BytesIO):
            memory = self.file
            self.file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
            self.file.write(memory.getbuffer())
        self.file.write(data)

    def end(self) -> None:
        """All of it is here: turn from receiving to reading."""
        self.file.seek(0)

    @property
    def is_full(self) -> bool:
        """Never: what memory should not hold goes to the disk."""
        return False

    def close(self) -> None:
        """Give memory or disk space back. Safe to call again."""
        try:
            self.file.close()
        except OSError:
            pass  # a full disk is met again when the file's buffer is flushed; there is nothing left to save


class BodyReader:
    """`wsgi.input` (PEP 3333): reads a received body and notes that its reader lives (`note_progress`)."""

    __slots__ = ("_file", "_note_progress")

    def __init__(self, file: IO[bytes], note_progress: Callable[[], None]) -> None:
        self._file = file
        self._note_progress = note_progress

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes, all of the rest when negative; empty at the end."""
        self._note_progress()
        return self._file.read(-1 if size is None else size)

    def readline(self, size: int = -1, /) -> bytes:
        """The next line, or at most `size` bytes of it."""
        self._note_progress()
        return self._file.readline(-1 if size is None else size)

    def readlines(self, hint: int = -1, /) -> list[bytes]:
        """The lines that are left, or enough of them for `hint` bytes."""
        self._note_progress()
        return self._file.readlines(-1 if hint is None else hint)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go elsewhere: the whole body is here, so parsers that want to read twice can."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Where the next read begins."""
        return self._file.tell()

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line

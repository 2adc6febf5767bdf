"""`wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling")."""

from collections.abc import Iterator
from inspect import unwrap
from io import BufferedRandom, BufferedReader, FileIO
from typing import NamedTuple, Protocol, cast

from clusterd.http.connections.transfer import regular_bytes

BLOCK_BYTES = 64 * 1024


class Readable(Protocol):
    """A file, or anything with its `read`."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; empty at the end."""


class RegularFile(NamedTuple):
    """A file whose bytes are what reading it gives, from its position on."""

    file: BufferedReader | BufferedRandom | FileIO
    offset: int
    size: int


class FileWrapper:
    """An iterable over the blocks of a file, closed with it."""

    def __init__(self, file: Readable, block_bytes: int = BLOCK_BYTES) -> None:
        self.file = file
        self.block_bytes = block_bytes
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self) -> Iterator[bytes]:
        while block := self.file.read(self.block_bytes):
            yield block

    def regular_file(self) -> RegularFile | None:
        """What is read here, if it is a regular file with something left to read.

        A descriptor is not enough: a GzipFile has that of what is compressed. So it has to be what open() gives, or
        something around it that reads by its very `read` (Django's File, a NamedTemporaryFile).
        """
        file = getattr(unwrap(self.file.read), "__self__", None)
        if type(file) not in (BufferedReader, BufferedRandom, FileIO):
            return None
        file = cast("BufferedReader | BufferedRandom | FileIO", file)
        if type(getattr(file, "raw", file)) is not FileIO:
            return None
        try:
            file.flush()
            offset = file.tell()
            size = regular_bytes(file.fileno(), offset)
        except (OSError, ValueError):  # a pipe has no position, a closed file nothing at all: reading tells
            return None
        return RegularFile(file, offset, size) if size and file.readable() else None

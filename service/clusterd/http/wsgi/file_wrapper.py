"""`wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling")."""

from collections.abc import Iterator
from inspect import unwrap
from io import BufferedRandom, BufferedReader, FileIO
from typing import NamedTuple, Protocol, cast

from clusterd.http.connections.transports.transfer import regular_bytes
from clusterd.http.messages.given import number

BLOCK_BYTES = 64 * 1024


class Readable(Protocol):
    """A file, or any object with its method `read`."""

    def read(self, size: int, /) -> object:
        """Read up to `size` bytes. Empty at the end. What is no bytes is refused when it is sent."""


class RegularFile(NamedTuple):
    """A regular file. Reading it from its position returns exactly the bytes on the disk."""

    file: BufferedReader | BufferedRandom | FileIO
    offset: int
    size: int


class FileWrapper:
    """An iterable over the blocks of a file. Its close() closes the file."""

    def __init__(self, file: Readable, block_bytes: object = BLOCK_BYTES) -> None:
        self.file = file
        self.block_bytes = number(block_bytes, "wsgi.file_wrapper: the block size")
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self) -> Iterator[object]:
        while block := self.file.read(self.block_bytes):
            yield block

    def regular_file(self) -> RegularFile | None:
        """Return the file if it is a regular file with bytes left to read, else None.

        A descriptor is not enough: a GzipFile has the descriptor of its compressed file. The file must therefore be the
        result of open(), or a wrapper that uses that file's own `read` (Django's File, a NamedTemporaryFile).
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
        except (OSError, ValueError):  # A pipe or a closed file: reading it handles that.
            return None
        return RegularFile(file, offset, size) if size and file.readable() else None

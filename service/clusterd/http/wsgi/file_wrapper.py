"""`wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling")."""

from collections.abc import Iterator
from typing import Protocol

BLOCK_BYTES = 64 * 1024


class Readable(Protocol):
    """A file, or anything with its `read`."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; empty at the end."""


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

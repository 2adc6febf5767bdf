"""Memory mapped at an address that is in use already, and holes in files (mmap(2), fallocate(2)).

By ctypes, as in prctl.py: Python's mmap module can do neither.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

_PROT_READ = 0x1
_PROT_READ_WRITE = 0x3
_MAP_SHARED = 0x01
_MAP_PRIVATE = 0x02
_MAP_FIXED = 0x10
_MAP_ANONYMOUS = 0x20
_MAP_FAILED = ctypes.c_void_p(-1).value
_FALLOC_FL_KEEP_SIZE = 0x01
_FALLOC_FL_PUNCH_HOLE = 0x02
_PYBUF_READ = 0x100
_PYBUF_WRITE = 0x200

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_memory_view = ctypes.pythonapi.PyMemoryView_FromMemory
_memory_view.restype = ctypes.py_object
_memory_view.argtypes = (ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)


class Mapping:
    """Memory that stays mapped at one address until the process ends, while what is behind it may change.

    So whatever holds a part of `view` goes on with the new memory, and none of it has to be told. All bytes are then
    those of the new memory: the caller copies what is to be kept.
    """

    def __init__(self, descriptor: int, offset: int, length: int, *, is_writable: bool = True) -> None:
        """Map a part of a file, shared with all who map it. Raises OSError."""
        self._length = length
        self._protection = _PROT_READ_WRITE if is_writable else _PROT_READ
        self._address = _mmap(None, length, self._protection, _MAP_SHARED, descriptor, offset)
        self.view: memoryview = _memory_view(self._address, length, _PYBUF_WRITE if is_writable else _PYBUF_READ)

    def move_to(self, descriptor: int, offset: int) -> None:
        """Put a part of another file behind the address. Raises OSError."""
        _mmap(self._address, self._length, self._protection, _MAP_SHARED | _MAP_FIXED, descriptor, offset)

    def make_private(self) -> None:
        """Put memory of this process alone behind the address: zeros. Raises OSError."""
        _mmap(self._address, self._length, self._protection, _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_FIXED, -1, 0)


@contextmanager
def mapped(descriptor: int, offset: int, length: int) -> Iterator[memoryview]:
    """Map a part of a file to be read, for the length of the block, in which all that is made of the memory must end.

    It needs no further descriptor, as `mmap.mmap` does: a process that has none left can still read. Raises OSError.
    """
    address = _mmap(None, length, _PROT_READ, _MAP_SHARED, descriptor, offset)
    view: memoryview = _memory_view(address, length, _PYBUF_READ)
    try:
        yield view
    finally:
        view.release()
        _libc.munmap(address, length)


def _mmap(address: int | None, length: int, protection: int, flags: int, descriptor: int, offset: int) -> int:
    found: int | None = _libc.mmap(address, length, protection, flags, descriptor, offset)
    if found is None or found == _MAP_FAILED:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return found


def punch_hole(descriptor: int, offset: int, length: int) -> None:
    """Make a part of a file zeros that take no memory (fallocate(2)). Raises OSError."""
    if _libc.fallocate(descriptor, _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, offset, length):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))

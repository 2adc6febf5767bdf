"""inotify(7) by ctypes, because Python has no call for it. The kernel reports changes in directories."""

import ctypes
import os
import struct
from enum import IntFlag

from clusterd.records import dataclass

_libc = ctypes.CDLL(None, use_errno=True)
_HEADER = struct.Struct("iIII")
_READ_BYTES = 64 * 1024

_IN_ONLYDIR = 0x01000000
_IN_EXCL_UNLINK = 0x04000000


class What(IntFlag):
    """What happened to a name in a watched directory."""

    WRITTEN = 0x8
    """IN_CLOSE_WRITE: a process that had opened the file for writing has closed it."""
    LEFT = 0x40
    """IN_MOVED_FROM"""
    ARRIVED = 0x80
    """IN_MOVED_TO"""
    CREATED = 0x100
    DELETED = 0x200
    OVERFLOWED = 0x4000
    """IN_Q_OVERFLOW: events were lost because the kernel's queue was full. It belongs to no directory."""
    UNWATCHED = 0x8000
    """IN_IGNORED: the directory itself is gone, or is no longer watched."""
    DIRECTORY = 0x40000000
    """The name is that of a directory."""


# IN_MODIFY is not used: a file that is being written is not finished, and a file that stays open, such as a log, never
# is. IN_EXCL_UNLINK: writes to a file without a name are ignored.
_WANTED = What.WRITTEN | What.LEFT | What.ARRIVED | What.CREATED | What.DELETED
_FLAGS = _WANTED | _IN_ONLYDIR | _IN_EXCL_UNLINK


@dataclass(frozen=True, slots=True)
class Notice:
    """One event."""

    watch: int
    """The number of the watched directory; -1 for an overflow."""
    what: What
    name: str
    """The name within the directory, or empty if the event is about the directory itself."""


class Inotify:
    """A queue of notices. Its methods raise OSError if the kernel's limits are reached (EMFILE, ENOSPC)."""

    def __init__(self) -> None:
        self.descriptor = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def watch(self, directory: str) -> int:
        """Watch a directory. Return its number, which is the same as before if it is already watched."""
        return _checked(_libc.inotify_add_watch(self.descriptor, os.fsencode(directory), int(_FLAGS)))

    def unwatch(self, number: int) -> None:
        """Stop watching the directory with that number."""
        _checked(_libc.inotify_rm_watch(self.descriptor, number))

    def read(self) -> list[Notice]:
        """Return the notices that fit a buffer, or an empty list if there are none."""
        try:
            data = os.read(self.descriptor, _READ_BYTES)
        except BlockingIOError:
            return []
        return parse(data)

    def close(self) -> None:
        """Close the descriptor, which stops watching all directories."""
        os.close(self.descriptor)


def parse(data: bytes) -> list[Notice]:
    """Parse what was read: struct inotify_event, with a name that is padded with zeros."""
    notices, at = [], 0
    while at < len(data):
        watch, mask, _, length = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        name = data[at : at + length].rstrip(b"\0")
        at += length
        notices.append(Notice(watch, What(mask), os.fsdecode(name)))
    return notices


def _checked(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result

"""inotify(7) by ctypes, as Python has no call for it: the kernel tells what changes in a directory."""

import ctypes
import os
import struct
from dataclasses import dataclass
from enum import IntFlag

_libc = ctypes.CDLL(None, use_errno=True)
_HEADER = struct.Struct("iIII")
_READ_BYTES = 64 * 1024

_IN_ONLYDIR = 0x01000000
_IN_EXCL_UNLINK = 0x04000000


class What(IntFlag):
    """What has happened to a name in a watched directory."""

    WRITTEN = 0x8
    """IN_CLOSE_WRITE: closed by somebody who could have written to it."""
    LEFT = 0x40
    """IN_MOVED_FROM"""
    ARRIVED = 0x80
    """IN_MOVED_TO"""
    CREATED = 0x100
    DELETED = 0x200
    OVERFLOWED = 0x4000
    """Of no directory: more has happened than the kernel keeps."""
    UNWATCHED = 0x8000
    """Of a directory itself: it is gone, or nobody wants to know any more."""
    DIRECTORY = 0x40000000
    """The name is that of a directory."""


# Not IN_MODIFY: a file that is being written is not finished, and one that is kept open, as a log is, never will be.
# What is written to after its name is gone (IN_EXCL_UNLINK) is nobody's business.
_WANTED = What.WRITTEN | What.LEFT | What.ARRIVED | What.CREATED | What.DELETED
_FLAGS = _WANTED | _IN_ONLYDIR | _IN_EXCL_UNLINK


@dataclass(frozen=True, slots=True)
class Notice:
    """One event."""

    watch: int
    """The number of the watched directory; -1 for an overflow."""
    what: What
    name: str
    """Within the directory; empty where the event is about the directory itself."""


class Inotify:
    """A queue of notices. Raises OSError where the kernel has no more to give (EMFILE, ENOSPC)."""

    def __init__(self) -> None:
        self.descriptor = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def watch(self, directory: str) -> int:
        """Be told of what happens in a directory; its number, the same as before if it is watched already."""
        return _checked(_libc.inotify_add_watch(self.descriptor, os.fsencode(directory), int(_FLAGS)))

    def unwatch(self, number: int) -> None:
        """Be told nothing more of it."""
        _checked(_libc.inotify_rm_watch(self.descriptor, number))

    def read(self) -> list[Notice]:
        """What has happened, as much as a buffer holds; nothing if there is nothing."""
        try:
            data = os.read(self.descriptor, _READ_BYTES)
        except BlockingIOError:
            return []
        return parse(data)

    def close(self) -> None:
        """Watch nothing any more."""
        os.close(self.descriptor)


def parse(data: bytes) -> list[Notice]:
    """The notices in what was read: struct inotify_event, with a name that is padded with zeros."""
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

"""Finds out that an application has closed descriptors that are not its own, as `os.closerange()` does.

Without its channel, its listeners or the log a process fails later, elsewhere, and for reasons that are hard to find.
"""

import os
from collections.abc import Iterable


class OwnDescriptors:
    """Some open descriptors. What an import has opened is the application's, and may be closed in its workers."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._files = {number: _file(number) for number in numbers}

    def lost(self) -> str | None:
        """Return what is wrong and what to do, or None if each of them is still what it was."""
        lost = sorted(number for number, file in self._files.items() if _file(number) != file)
        if not lost:
            return None
        which = f"{len(lost)} descriptors that are clusterd's ({lost[0]} to {lost[-1]})"
        return f"{which} were closed: an application may close only what it has opened itself (os.closerange?)"


def _file(number: int) -> tuple[int, int] | None:
    """Return the device and inode of an open descriptor, or None."""
    try:
        status = os.fstat(number)
    except OSError:
        return None
    return status.st_dev, status.st_ino

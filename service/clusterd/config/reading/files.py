"""Reads the text of a file that each reload reads again, such as the configuration."""

import stat
from pathlib import Path
from typing import Never

from clusterd.config.reading.problems import ConfigError, Place, Problem
from clusterd.config.reading.working_directory import absolute

LARGEST_FILE = 256 * 1024
"""In bytes. The master reads the file in its loop, and PyYAML takes about a second for a file of this size."""

_BYTE_ORDER_MARK = "\ufeff"


def text_of(path: Path, if_absent: str, if_large: str) -> str:
    """Return the text of a file. The arguments are hints for a file that does not exist and for one that is too large.

    Raises ConfigError.
    """
    source = Place(str(path))
    path = Path(absolute(path))
    try:
        # The type is checked first: opening a FIFO would block the master until a process writes to it.
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            _refuse(source, "this is a directory", "name the file in it")
        if not stat.S_ISREG(mode):
            _refuse(source, "this is not a regular file", "each reload reads it again")
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        _refuse(source, "there is no such file", if_absent)
    except (OSError, ValueError) as error:
        _refuse(source, f"cannot be read: {getattr(error, 'strerror', None) or error}")
    if len(data) > LARGEST_FILE:
        _refuse(source, f"larger than {LARGEST_FILE // 1024}K", if_large)
    try:
        return data.decode().removeprefix(_BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        before = data[: error.start]
        column = len(before.rpartition(b"\n")[2].decode()) + 1
        place = Place(source.source, before.count(b"\n") + 1, column)
        _refuse(place, f"byte 0x{data[error.start]:02x} is not UTF-8", "save the file as UTF-8")


def _refuse(place: Place, found: str, hint: str = "") -> Never:
    raise ConfigError((Problem(place, "", found, hint=hint),)) from None

"""The file in which a worker gives the result of an examination (`Examine`): a profile, or what its memory is used for.

The master makes it, passes it with the order, and reads it: a worker whose event loop is blocked cannot send, but it
can write. The master writes one byte of it, by which it calls the examination off. All that the worker writes is read
with pread and within bounds, because a worker runs code that the master must not trust.
"""

import os
import struct
from enum import Enum, StrEnum
from typing import Final

from clusterd.records import dataclass

MOST_BYTES: Final = 1 << 20
"""The largest result. It is compressed."""
MOST_SECONDS: Final = 600
"""The longest examination."""

_HEADER: Final = struct.Struct("<BxxxI")
_OFF_AT: Final = 8
_RESULT_AT: Final = 16
_REASON_BYTES: Final = 1000


class Examination(StrEnum):
    """What a worker can be examined for."""

    PROFILE = "profile"
    MEMORY = "memory"


class Stage(Enum):
    """How far the worker has got. The values are the bytes in the file."""

    UNREAD = 0
    """It has not read the order: its event loop does not turn."""
    BEGUN = 1
    DONE = 2
    FAILED = 3


@dataclass(frozen=True, slots=True)
class Progress:
    """What is in the file."""

    stage: Stage
    result: bytes = b""
    """If it is done."""
    reason: str = ""
    """If it has failed."""


def new_file() -> int:
    """Return the descriptor of an empty file. Raises OSError."""
    return os.memfd_create("clusterd-examination", os.MFD_CLOEXEC)


# ---- the worker's side


def begun(descriptor: int) -> None:
    """Say that the examination has begun."""
    _write_header(descriptor, Stage.BEGUN, 0)


def done(descriptor: int, result: bytes) -> None:
    """Give the result, or fail if it is too large."""
    if len(result) > MOST_BYTES:
        failed(descriptor, f"the result has {len(result)} bytes; at most {MOST_BYTES} can be passed on")
        return
    os.pwrite(descriptor, result, _RESULT_AT)
    _write_header(descriptor, Stage.DONE, len(result))


def failed(descriptor: int, reason: str) -> None:
    """Say why there is no result."""
    text = reason.encode(errors="replace")[:_REASON_BYTES]
    os.pwrite(descriptor, text, _RESULT_AT)
    _write_header(descriptor, Stage.FAILED, len(text))


def is_called_off(descriptor: int) -> bool:
    """Whether nobody waits for the result any more."""
    return os.pread(descriptor, 1, _OFF_AT) == b"\x01"


def _write_header(descriptor: int, stage: Stage, length: int) -> None:
    os.pwrite(descriptor, _HEADER.pack(stage.value, length), 0)


# ---- the master's side


def call_off(descriptor: int) -> None:
    """Have the examination end, if it has begun. Raises OSError."""
    os.pwrite(descriptor, b"\x01", _OFF_AT)


def read(descriptor: int) -> Progress:
    """Return what the worker has written. Whatever that is, no more than MOST_BYTES are read."""
    header = os.pread(descriptor, _HEADER.size, 0)
    if len(header) < _HEADER.size:
        return Progress(Stage.UNREAD)
    number, length = _HEADER.unpack(header)
    try:
        stage = Stage(number)
    except ValueError:
        return Progress(Stage.FAILED, reason="the worker has written over its answer")
    match stage:
        case Stage.DONE:
            return Progress(stage, result=os.pread(descriptor, min(length, MOST_BYTES), _RESULT_AT))
        case Stage.FAILED:
            text = os.pread(descriptor, min(length, _REASON_BYTES), _RESULT_AT)
            return Progress(stage, reason=text.decode(errors="replace"))
        case _:
            return Progress(stage)

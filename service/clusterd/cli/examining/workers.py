"""Asks one worker, or all of them at the same time, to be examined."""

import queue
import threading
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clusterd.cli.asking import Unreachable, ask, result_of
from clusterd.profiles.profile import decompressed
from clusterd.records import dataclass
from clusterd.wire.control import Command, ControlError

ALL = "all"
MOST_AT_ONCE = 8
"""The most connections whose requests the master has not read yet. It drops the oldest of more than 32."""
_END_SECONDS = 130.0
"""How long clusterd may take after the time is over. An examination of memory may take two minutes."""


@dataclass(frozen=True, slots=True)
class Examined:
    """The answer for one worker."""

    slot: int
    pid: int
    result: bytes
    dumps: bytes


@dataclass(frozen=True, slots=True)
class NotExamined:
    """Why there is none."""

    slot: int
    reason: str


def slots_of(path: Path) -> list[int]:
    """Return the slots that have a worker. Raises Unreachable and ControlError."""
    workers = result_of(path, Command.STATUS)["data"]["workers"]
    return sorted({worker["slot"] for worker in workers if worker["pid"] is not None})


def examine(path: Path, command: Command, slots: list[int], seconds: int) -> Iterator[Examined | NotExamined]:
    """Examine the workers in these slots at the same time, and yield the answers as they come.

    The threads are daemons: Ctrl-C ends the program at once, and clusterd calls off what nobody waits for.
    """
    found: queue.SimpleQueue[Examined | NotExamined] = queue.SimpleQueue()
    unread = threading.Semaphore(MOST_AT_ONCE)

    def run(slot: int) -> None:
        try:
            found.put(_examine(path, command, slot, seconds, unread))
        except Exception as error:
            found.put(NotExamined(slot, repr(error)))

    for slot in slots:
        threading.Thread(target=run, args=(slot,), daemon=True).start()
    for _ in slots:
        yield found.get()


def _examine(
    path: Path, command: Command, slot: int, seconds: int, unread: threading.Semaphore
) -> Examined | NotExamined:
    result: dict[str, Any] = {}
    is_read = False
    unread.acquire()
    try:
        for document in ask(path, command, {"slot": slot, "seconds": seconds}, seconds + _END_SECONDS):
            if not is_read:
                is_read = True
                unread.release()
            result = document
    except (Unreachable, ControlError) as error:
        return NotExamined(slot, str(error))
    finally:
        if not is_read:
            unread.release()
    if not result["succeeded"]:
        return NotExamined(slot, str(result["text"]))
    data = result["data"]
    try:
        dumps, found = (b64decode(data[name], validate=True) for name in ("dumps", "result"))
        return Examined(slot, data["pid"], _whole(found), _whole(dumps))
    except (KeyError, TypeError, ValueError) as error:
        return NotExamined(slot, f"worker {slot} has sent something else than asked for: {error}")


def _whole(data: bytes) -> bytes:
    """Raises BadProfile."""
    return decompressed(data) if data else b""

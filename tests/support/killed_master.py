"""A service whose master dies at a chosen moment of whatever it does (killing/sitecustomize.py), and what is left."""

import os
import re
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.support.managed import ManagedService
from tests.support.processes import descendants, open_files
from tests.support.service import wait_until

_NUMBERS = struct.Struct("4Q")
_CUSTOM = Path(__file__).parent / "killing"
_NEVER = 0


class Moments:
    """Counts the moments of every master of a service, and sets the one at which it dies."""

    def __init__(self, service: ManagedService) -> None:
        self._file = service.directory / "moments"
        self._file.write_bytes(_NUMBERS.pack(0, _NEVER, 0, 0))
        paths = [str(_CUSTOM), *filter(None, [os.environ.get("PYTHONPATH")])]
        service.environment |= {"KILLED_AT": str(self._file), "PYTHONPATH": os.pathsep.join(paths)}

    @property
    def count(self) -> int:
        """How many there were."""
        return int(_NUMBERS.unpack(self._file.read_bytes())[0])

    def die_in(self, moments: int, further: int = 0) -> None:
        """Have the master die after so many more, and the next one after `further` of its own, unless that is 0."""
        self._set(self.count + moments, further)

    def die_after_stop(self, moments: int) -> None:
        """Have the master die so many moments after it has next stopped a process (SIGSTOP)."""
        self._set(_NEVER, 0, moments)

    def spare(self) -> None:
        """Have it live."""
        self._set(_NEVER, 0)

    def _set(self, last: int, further: int, after_stop: int = 0) -> None:
        with self._file.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), struct.pack("3Q", last, further, after_stop), 8)


@dataclass(frozen=True)
class Left:
    """What there is of a service at rest. Two that do the same have the same."""

    descriptors: Counter[str]
    """The open files of the master, by kind."""
    stored: Counter[str]
    """The descriptors in systemd's store, by the letter of their names."""
    processes: int

    def is_no_more_than(self, other: "Left") -> bool:
        """Whether nothing has been left behind since `other`, in which a client may still have had a connection."""
        is_the_same = (self.stored, self.processes) == (other.stored, other.processes)
        return is_the_same and self.descriptors <= other.descriptors


def left(service: ManagedService) -> Left:
    """Look at a service at rest."""
    assert service.process is not None
    return Left(
        Counter(filter(None, map(_kind_of_file, open_files(service.pid).values()))),
        Counter(name.partition("-")[0] for name, _ in service.seen().stored),
        len(descendants(service.process.pid)),
    )


def _kind_of_file(file: str) -> str:
    """The kind of an open file, without what differs between two that are for the same. A pidfd is for an adopted."""
    if "pidfd" in file:
        return ""
    return re.sub(r"-\d+ |:\[\d+\]", " ", file)


def at_rest(service: ManagedService) -> Left:
    """Wait until two looks at a service show the same, and return that."""

    def settled() -> Left | None:
        one = left(service)
        service.workers()
        return one if left(service) == one else None

    found: Left = wait_until(settled, f"rest:\n{service.log()}")
    return found

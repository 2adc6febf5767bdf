"""The file in memory with the state of the master, which systemd keeps for the next one.

It is rewritten as a whole and may be read at any moment, because the master may be killed at any moment: each document
goes where the last one is not, and then one write of a few bytes says where it is. SIGKILL does not cut a write within
one page short. A lease says whose it is: a lock of fcntl(2) belongs to the process, so it is free when that is dead.
"""

import fcntl
import os
import signal
import struct
import time
import zlib
from typing import Final

MOST_BYTES: Final = 256 * 1024 * 1024
"""The longest document."""
MOST_ATTEMPTS: Final = 5
"""How many masters in a row may die while they take over, or by themselves soon after it. It may be the state that they
die of.
"""
LEASE_SECONDS: Final = 10.0
"""How long to wait for the end of a master that is slow to die."""

_LOCK: Final = struct.Struct("hhqqi0q")
"""struct flock of fcntl(2)."""
_HEADER: Final = struct.Struct("8s5Q")
_MAGIC: Final = b"clusterS"
_PAGE: Final = 4096
_LOOK_SECONDS: Final = 0.02


class TakeoverError(Exception):
    """The next program cannot go on with what the last one has left. The text is one line for the operator."""


class LeaseHeld(TakeoverError):
    """Another master lives, and commands the workers."""


class LeaseLost(Exception):
    """Another master commands the workers."""


class StateFile:
    """Owns the descriptor. No other descriptor of the file may be closed: that would end the lease (fcntl(2))."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._place = 0
        self._length = 0
        self._checksum = 0
        self._attempts = 0
        self._has_gone_on = False

    @classmethod
    def create(cls) -> "StateFile":
        """Create the file and take its lease. Raises OSError."""
        file = cls(os.memfd_create("clusterd-state", os.MFD_CLOEXEC))
        fcntl.lockf(file.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file

    @classmethod
    def take(cls, descriptor: int, seconds: float = LEASE_SECONDS, *, died_by_itself: bool = False) -> "StateFile":
        """Take the file, and its lease, when the master before is dead. Counts the attempt until `is_settled`.

        `died_by_itself` says that this master was not killed from outside. One that was, and had taken over, ran well.
        Raises LeaseHeld if that master lives on, TakeoverError if the file is damaged, or after MOST_ATTEMPTS.
        """
        file = cls(descriptor)
        file._wait_for_lease(time.monotonic() + seconds)
        file._read_header()
        if file._has_gone_on and not died_by_itself:
            file._attempts = 0
        if file._attempts >= MOST_ATTEMPTS:
            raise TakeoverError(f"{file._attempts} masters in a row have died when they had taken over, or before")
        file._attempts += 1
        file._has_gone_on = False
        file._write_header()
        return file

    @classmethod
    def go_on(cls, descriptor: int) -> "StateFile":
        """Go on with the file in the same process, whose lease another program has not lost. Raises TakeoverError."""
        file = cls(descriptor)
        os.set_inheritable(descriptor, False)
        file._read_header()
        return file

    def _wait_for_lease(self, until: float) -> None:
        while True:
            try:
                fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if time.monotonic() > until:
                    raise LeaseHeld(f"another master commands the workers: {error.strerror}") from None
            else:
                return
            time.sleep(_LOOK_SECONDS)

    @classmethod
    def kill_holder(cls, descriptor: int) -> int | None:
        """Send SIGKILL to the process that has the lease, which then never runs again. Returns its pid. Raises OSError.

        None if no process of this PID namespace has it.
        """
        pid = _holder(descriptor)
        if pid is None:
            return None
        process = os.pidfd_open(pid)
        try:
            if _holder(descriptor) != pid:  # It has ended meanwhile, and the pid may be another's.
                return None
            signal.pidfd_send_signal(process, signal.SIGKILL)
        finally:
            os.close(process)
        return pid

    def read(self) -> bytes:
        """Return the document that was written last. Raises TakeoverError."""
        document = os.pread(self.descriptor, self._length, self._offset(self._place))
        if len(document) != self._length or zlib.crc32(document) != self._checksum:
            raise TakeoverError("the state of the last master is damaged")
        return document

    def write(self, document: bytes) -> None:
        """Replace the document. Raises OSError, with which the last one is still there, and LeaseLost."""
        try:
            # Once more, because this process loses the lease when it closes any duplicate of the descriptor.
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LeaseLost from None
        place = 1 - self._place
        rest, offset = memoryview(document), self._offset(place)
        while rest:
            written = os.pwrite(self.descriptor, rest, offset)
            rest, offset = rest[written:], offset + written
        self._place, self._length, self._checksum = place, len(document), zlib.crc32(document)
        self._write_header()

    def has_gone_on(self) -> None:
        """The master has taken over. If it is killed from outside from now on, that is not for the state."""
        self._has_gone_on = True
        self._write_header()

    def is_settled(self) -> None:
        """The master that has taken over runs well. The next one may try as often."""
        self._attempts = 0
        self._write_header()

    def _read_header(self) -> None:
        written = os.pread(self.descriptor, _HEADER.size, 0)
        try:
            magic, self._place, self._length, self._checksum, self._attempts, gone_on = _HEADER.unpack(written)
            self._has_gone_on = bool(gone_on)
        except struct.error:
            magic = b""
        if magic != _MAGIC or self._place > 1 or not 0 < self._length <= MOST_BYTES:
            raise TakeoverError("the state of the last master is damaged")

    def _write_header(self) -> None:
        numbers = self._place, self._length, self._checksum, self._attempts, self._has_gone_on
        header = _HEADER.pack(_MAGIC, *numbers)
        os.pwrite(self.descriptor, header, 0)

    @staticmethod
    def _offset(place: int) -> int:
        return _PAGE + place * MOST_BYTES


def _holder(descriptor: int) -> int | None:
    """The process that has the lease, if that is another one (F_GETLK, fcntl(2))."""
    asked = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = _LOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    return pid if kind != fcntl.F_UNLCK and pid > 0 else None

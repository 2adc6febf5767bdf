"""Gets the stacks of all threads of another process by a signal.

faulthandler writes them from its C signal handler, so it answers even while C code holds the GIL, and also at a crash.
It writes into a memfd that the master reads. So the stacks become one record in the log, and do not mix with the lines
of other processes.
"""

import faulthandler
import os
import signal

from clusterd.linux.memory import punch_hole

STACKS_SIGNAL = signal.SIGRTMIN + 8
"""A real-time signal that Python, uvloop and glibc do not use."""


def new_stacks_file(name: str) -> int:
    """Return the descriptor of an empty memfd for the stacks of one process."""
    return os.memfd_create(name, os.MFD_CLOEXEC)


def write_stacks_to(descriptor: int) -> None:
    """Write the stacks of all threads at STACKS_SIGNAL and at fatal signals."""
    faulthandler.enable(descriptor, all_threads=True)
    faulthandler.register(STACKS_SIGNAL, descriptor, all_threads=True, chain=False)
    # A template starts with this signal blocked. A signal that arrived before is answered now.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [STACKS_SIGNAL])


def read_stacks(descriptor: int, offset: int) -> str:
    """Return what was written after `offset` (bytes). pread is used, because both processes share the file offset."""
    return os.pread(descriptor, 1 << 20, offset).decode(errors="replace")


def forget_stacks(descriptor: int, offset: int) -> None:
    """Free the memory of what was written before `offset`. Later stacks are written behind it. Raises OSError."""
    punch_hole(descriptor, 0, offset)

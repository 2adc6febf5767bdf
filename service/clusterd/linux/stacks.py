"""What the threads of a process are doing, asked from outside by a signal.

faulthandler writes from its C signal handler, so it answers while C code holds the GIL, and on a
crash too. It writes into a memfd that the master reads: one record in the log instead of lines
among those of other processes.
"""

import faulthandler
import os
import signal

STACKS_SIGNAL = signal.SIGRTMIN + 8
"""A real-time signal that neither Python, uvloop nor glibc uses."""


def new_stacks_file(name: str) -> int:
    """The descriptor of an empty memfd for one process's stacks."""
    return os.memfd_create(name, os.MFD_CLOEXEC)


def write_stacks_to(descriptor: int) -> None:
    """Answer STACKS_SIGNAL, and fatal signals, with the stacks of all threads."""
    faulthandler.enable(descriptor, all_threads=True)
    faulthandler.register(STACKS_SIGNAL, descriptor, all_threads=True, chain=False)
    # A template is started with it blocked: asked before this line, it answers now.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [STACKS_SIGNAL])


def read_stacks(descriptor: int, offset: int) -> str:
    """What was written since `offset` (bytes). pread: the offset is shared with the writing process."""
    return os.pread(descriptor, 1 << 20, offset).decode(errors="replace")

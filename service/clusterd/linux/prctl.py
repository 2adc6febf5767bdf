"""prctl(2) by ctypes. Python has no call for it, and a C extension for two lines would require a compiler."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_TIMERSLACK = 29
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_MM = 35
_PR_SET_MM_ARG_END = 9
_PR_SET_PTRACER = 0x59616D61
_COMM_BYTES = 15

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, *arguments: int | bytes) -> bool:
    values = [ctypes.c_char_p(each) if isinstance(each, bytes) else ctypes.c_ulong(each) for each in arguments]
    values += [ctypes.c_ulong(0)] * (4 - len(values))
    return bool(_libc.prctl(option, *values) == 0)


def become_subreaper() -> None:
    """Make orphaned descendants children of this process (PR_SET_CHILD_SUBREAPER). Raises OSError."""
    if not _prctl(_PR_SET_CHILD_SUBREAPER, 1):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def die_with_parent() -> None:
    """Have this process killed by SIGKILL when the thread that started it ends for any reason. Raises OSError."""
    if not _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def outlive_parent() -> None:
    """Undo `die_with_parent`. Raises OSError."""
    if not _prctl(_PR_SET_PDEATHSIG, 0):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def allow_tracer(pid: int) -> bool:
    """Let the process `pid` take descriptors of this one by pidfd_getfd(2), as its ancestors may (PR_SET_PTRACER).

    It replaces the process that was allowed before. Returns False if there is no such process, or if the kernel has no
    Yama and lets every process of the same user do it.
    """
    return _prctl(_PR_SET_PTRACER, pid)


def close_memory() -> None:
    """Have processes of the same user neither read nor write the memory of this one (PR_SET_DUMPABLE, ptrace(2)).

    It leaves no core file either. An exec undoes it.
    """
    _prctl(_PR_SET_DUMPABLE, 0)


def set_comm(name: str) -> None:
    """Set the name in `ps -o comm` and `top`, cut to 15 bytes."""
    _prctl(_PR_SET_NAME, name.encode()[:_COMM_BYTES])


def wake_in_time() -> None:
    """Have the calling thread wake at the end of a wait, and not up to 50 us later (PR_SET_TIMERSLACK)."""
    _prctl(_PR_SET_TIMERSLACK, 1)


def set_argument_end(address: int) -> bool:
    """Set where /proc/self/cmdline ends. Return False without CAP_SYS_RESOURCE."""
    return _prctl(_PR_SET_MM, _PR_SET_MM_ARG_END, address)

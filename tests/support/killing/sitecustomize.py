"""Kills a master before or after any call that another process can see. Python imports this first (site).

`$KILLED_AT` names a file with four numbers, which all masters of a service share: how many such moments there were, the
one at which a master ends itself, after how many more the next one does (0: not at all), and how many after it has
stopped a process one does.
"""

import fcntl
import functools
import mmap
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

_NUMBERS = struct.Struct("4Q")
_CALLS: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (os, ("pwrite", "posix_spawn", "kill", "waitid", "wait4", "close", "pidfd_open", "memfd_create", "unlink")),
    (socket.socket, ("sendmsg", "recvmsg", "send", "sendall", "accept", "close", "shutdown")),
    (signal, ("pidfd_send_signal",)),
    (fcntl, ("lockf",)),
)


def _watch(memory: mmap.mmap) -> None:
    me, kill = os.getpid(), os.kill

    def moment() -> None:
        if os.getpid() != me:
            return
        count, last, further, after_stop = _NUMBERS.unpack_from(memory)
        dies = count + 1 == last
        last, further = (last + further, 0) if dies else (last, further)
        _NUMBERS.pack_into(memory, 0, count + 1, last, further, after_stop)
        if dies:
            kill(me, signal.SIGKILL)

    def stop(pid: int, number: int) -> None:
        count, _, further, after_stop = _NUMBERS.unpack_from(memory)
        if number == signal.SIGSTOP and after_stop:
            _NUMBERS.pack_into(memory, 0, count, count + after_stop, further, 0)
        kill(pid, number)

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def instead(*arguments: Any, **options: Any) -> Any:
            moment()
            try:
                return call(*arguments, **options)
            finally:
                moment()

        return instead

    os.kill = stop
    for owner, names in _CALLS:
        for name in names:
            setattr(owner, name, watched(getattr(owner, name)))


if sys.orig_argv[1:3] == ["-m", "clusterd.cli.clusterd"] and "KILLED_AT" in os.environ:
    with open(os.environ["KILLED_AT"], "r+b") as _file:
        _watch(mmap.mmap(_file.fileno(), _NUMBERS.size))

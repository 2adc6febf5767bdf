"""Finds what an application's import has created that does not survive a fork: threads, sockets, databases."""

import os
import socket
import stat
import threading
from pathlib import Path

from clusterd.process.fork_hygiene import wait_for_child
from clusterd.runtime import originals
from clusterd.runtime.hub import descriptors_of_hub

_SQLITE_MAGIC = b"SQLite format 3\0"
_HARMLESS_PEERS = ("/run/systemd/journal/", "/dev/log")


def open_descriptors() -> frozenset[int]:
    """Return the open descriptors of this process."""
    return frozenset(int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}"))


def unforkable_findings(before: frozenset[int]) -> list[str]:
    """Describe the threads, connections and databases that the import has opened. Empty when a fork is safe.

    `before` holds the descriptors from before the import. A trial fork comes first, because OpenBLAS and others stop
    their threads in their own fork handlers: after `import numpy` there are two threads, and one after a fork.
    """
    trial = originals.fork()
    if trial == 0:
        os._exit(0)
    wait_for_child(trial)
    descriptors = sorted(open_descriptors() - before - descriptors_of_hub())
    return [*_threads(), *(found for each in descriptors if (found := _describe(each)) is not None)]


def _threads() -> list[str]:
    own = threading.get_native_id()
    python_names = {thread.native_id: thread.name for thread in threading.enumerate()}
    findings = []
    for task in sorted(int(name) for name in os.listdir("/proc/self/task")):
        if task != own:
            name = python_names.get(task) or Path(f"/proc/self/task/{task}/comm").read_text().strip()
            findings.append(f"thread {name!r} is running")
    return findings


def _describe(descriptor: int) -> str | None:
    """Describe why a fork with `descriptor` open is unsafe. None if it is safe."""
    try:
        target = os.readlink(f"/proc/self/fd/{descriptor}")
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return None
    if stat.S_ISSOCK(mode):
        return _describe_socket(descriptor)
    if "[eventpoll]" in target:
        return f"descriptor {descriptor} is an epoll instance (an event loop was created)"
    if stat.S_ISREG(mode) and _is_sqlite(descriptor):
        return f"descriptor {descriptor} is the SQLite database {target}"
    return None


def _describe_socket(descriptor: int) -> str | None:
    with originals.socket(fileno=os.dup(descriptor)) as sock:
        if sock.type & socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return f"descriptor {descriptor} is a socket listening on {sock.getsockname()}"
        try:
            peer = sock.getpeername()
        except OSError:
            return None
        if isinstance(peer, str) and peer.startswith(_HARMLESS_PEERS):
            return None
        return f"descriptor {descriptor} is a socket connected to {peer or 'another of this process'}"


def _is_sqlite(descriptor: int) -> bool:
    try:
        return os.pread(descriptor, len(_SQLITE_MAGIC), 0) == _SQLITE_MAGIC
    except OSError:
        return False

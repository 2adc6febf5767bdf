"""Finds what an application's import has created that does not survive a fork: threads, sockets, databases.

What is found is judged by a fork. Libraries that expect forks have handlers for them (os.register_at_fork): they begin
their threads anew in the child, and close what both processes would use. What they mend is no finding.
"""

import json
import os
import re
import select
import signal
import socket
import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import NoReturn

from clusterd.linux.prctl import die_with_parent
from clusterd.process.fork_hygiene import wait_for_child
from clusterd.records import dataclass
from clusterd.runtime import originals
from clusterd.runtime.hub import descriptors_of_hub, pool_threads_of_hub
from clusterd.template.forking import fork_copy
from clusterd.template.known_libraries import library_of

_SQLITE_MAGIC = b"SQLite format 3\0"
_HARMLESS_PEERS = ("/run/systemd/journal/", "/dev/log")
_SETTLE_SECONDS = 0.1
"""How long the forked process waits for threads. Python's run when the fork returns, those of C code a little later."""
_LOOK_AGAIN_SECONDS = 0.01
_TRIAL_SECONDS = 5.0
"""A fork handler that takes longer hangs."""
_HANGS = "a forked process does not get through the fork handlers of the import"
_MOST_FINDINGS = 100
_MOST_BYTES = 64 * 1024
"""What fits a pipe that is read when its writer has ended."""


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread beside the main one. `kind` tells which thread of another process is its counterpart."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Descriptor:
    """An open descriptor that two processes must not both use. `file` tells whether it is still the same open file."""

    number: int
    file: tuple[int, int]
    description: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a process has that a fork may break."""

    threads: tuple[Thread, ...] = ()
    descriptors: tuple[Descriptor, ...] = ()


def open_descriptors() -> frozenset[int]:
    """Return the open descriptors of this process."""
    return frozenset(int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}"))


@dataclass(frozen=True, slots=True)
class Findings:
    """What a fork breaks, and whether a copy without threads can take the place of this process."""

    broken: list[str]
    may_stand_aside: bool


def try_fork(before: frozenset[int]) -> Findings:
    """Describe what of the import does not survive a fork.

    `before` holds the descriptors from before the import. A fork comes first, because OpenBLAS and others stop their
    threads in their own fork handlers: after `import numpy` there are two threads, and one after a fork.
    """
    trial = originals.fork()
    if trial == 0:
        os._exit(0)
    has_ended = _has_ended(trial)
    here = _inventory(before)
    if has_ended and here == Inventory():
        return Findings([], may_stand_aside=False)
    by_copy = _after_forks(here, before, fork_copy) if has_ended else None
    if by_copy == []:
        return Findings([], may_stand_aside=bool(here.threads))
    # DogStatsd ends its thread before a fork, and has the thread itself say so: in a copy there is none that can.
    directly = _after_forks(here, before, originals.fork) if has_ended else None
    if directly is None:
        return Findings([*broken(here, here), _HANGS], may_stand_aside=False)
    return Findings(directly, may_stand_aside=bool(here.threads) and by_copy == directly)


def broken(here: Inventory, after: Inventory) -> list[str]:
    """Describe what of `here` does not work in a process that was forked from it and has `after`."""
    return list(dict.fromkeys([*_lost_threads(here, after), *_shared_descriptors(here, after)]))


def _lost_threads(here: Inventory, after: Inventory) -> list[str]:
    begun_anew = Counter(thread.kind for thread in after.threads)
    findings = []
    for thread in here.threads:
        library = library_of(thread.name)
        if begun_anew[thread.kind]:
            begun_anew[thread.kind] -= 1
            survives = library is None or library.survives
        else:
            survives = library is not None and library.survives
        if not survives:
            findings.append(f"thread {thread.name!r} is running{'' if library is None else f' ({library.name})'}")
    return findings


def _shared_descriptors(here: Inventory, after: Inventory) -> list[str]:
    shared = {(each.number, each.file) for each in after.descriptors}
    return [each.description for each in here.descriptors if (each.number, each.file) in shared]


def _after_forks(here: Inventory, before: frozenset[int], fork_between: Callable[[], int]) -> list[str] | None:
    """Describe what of `here` is broken in a worker, which is forked from a process between. None if there is none."""
    reader, writer = os.pipe()
    between = fork_between()
    if between == 0:
        die_with_parent()
        os.setpgid(0, 0)  # A child that hangs in its fork handlers ends with this process.
        try:
            child = originals.fork()
        except OSError as error:
            os.write(writer, json.dumps([f"a worker could not be forked: {error}"]).encode())
            os._exit(1)
        if child == 0:
            die_with_parent()
            _report(here, before | {reader, writer}, writer)
        wait_for_child(child)
        os._exit(0)
    originals.close(writer)
    answer = os.read(reader, _MOST_BYTES) if _has_ended(between) else b""
    originals.close(reader)
    found: list[str] | None = json.loads(answer) if answer else None
    return found


def _has_ended(child: int) -> bool:
    """Wait for the end of a child of this process. It is killed if it takes too long."""
    try:
        ended = os.pidfd_open(child)
    except ProcessLookupError:  # The kernel has reaped it, as the application ignores SIGCHLD, or the application has.
        return True
    poll = originals.poll()  # Not select(2), which takes no descriptor above 1023.
    poll.register(ended, select.POLLIN)
    in_time = bool(poll.poll(1000 * _TRIAL_SECONDS))
    originals.close(ended)
    if not in_time:
        for end in (os.killpg, os.kill):  # It may hang before it has a group of its own, or have ended just now.
            with suppress(ProcessLookupError):
                end(child, signal.SIGKILL)
    wait_for_child(child)
    return in_time


def _report(here: Inventory, before: frozenset[int], writer: int) -> NoReturn:
    """Send what is broken in this forked process, and exit."""
    until = monotonic() + _SETTLE_SECONDS
    try:
        while (found := broken(here, _inventory(before))) and monotonic() < until:
            originals.select([], [], [], _LOOK_AGAIN_SECONDS)
        os.write(writer, json.dumps(found[:_MOST_FINDINGS]).encode())
    finally:
        os._exit(0)


def _inventory(before: frozenset[int]) -> Inventory:
    descriptors = sorted(open_descriptors() - before - descriptors_of_hub())
    found = (_descriptor(each) for each in descriptors)
    return Inventory(tuple(_threads()), tuple(each for each in found if each is not None))


def _threads() -> Iterator[Thread]:
    """Find the threads beside the main one. gevent begins those of its pool anew, so they are left out."""
    python_threads = {thread.native_id: thread for thread in threading.enumerate()}
    own, of_pool = threading.get_native_id(), pool_threads_of_hub()
    own_name = _name_of(own)
    for task in sorted(int(name) for name in os.listdir("/proc/self/task")):
        thread = python_threads.get(task)
        if task == own:
            continue
        if thread is not None:
            yield Thread(thread.name, _kind(thread))
        elif of_pool and (name := _name_of(task)) == own_name:
            of_pool -= 1
        elif name := _name_of(task):
            yield Thread(name, name)


def _name_of(task: int) -> str:
    """The kernel's name for a thread; empty if it has ended."""
    try:
        return Path(f"/proc/self/task/{task}/comm").read_text().strip()
    except OSError:
        return ""


def _kind(thread: threading.Thread) -> str:
    """What a thread has in common with the one that takes its place. Numbers in names differ (`Thread-1`)."""
    target = getattr(thread, "_target", None)
    parts = type(thread).__module__, type(thread).__qualname__, getattr(target, "__qualname__", ""), thread.name
    return " ".join(re.sub(r"\d+", "", part) for part in parts)


def _descriptor(number: int) -> Descriptor | None:
    """Describe why a fork with the descriptor open is unsafe. None if it is safe."""
    try:
        target = os.readlink(f"/proc/self/fd/{number}")
        status = os.fstat(number)
    except OSError:
        return None
    description = _describe(number, target, status.st_mode)
    return None if description is None else Descriptor(number, (status.st_dev, status.st_ino), description)


def _describe(descriptor: int, target: str, mode: int) -> str | None:
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

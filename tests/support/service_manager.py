"""A small systemd for one service: it keeps descriptors, and starts the service again when a signal ends it.

    python service_manager.py [--most N] [--ending-seconds S] [--blocking] [--socket NAME=DESCRIPTOR]...
        CONTROL -- COMMAND...

It needs the standard library only. It is the subreaper of the service (prctl(2)), as PID 1 is: what the master leaves
behind becomes its child. SIGTERM stops the service as `systemctl stop` does; SIGQUIT ends everything.
What systemd does is from service.c and manager.c of versions 252 and 257.
"""

import argparse
import ctypes
import fcntl
import json
import os
import platform
import resource
import select
import selectors
import signal
import socket
import struct
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

PR_SET_CHILD_SUBREAPER = 36
KCMP_FILE = 0
SYS_KCMP = 312 if platform.machine() == "x86_64" else 272
MOST_DESCRIPTORS_IN_A_MESSAGE = 253
LEFT_SOMETHING = 99
"""The exit status when processes of the service did not end by themselves after it."""
ENDS = frozenset({0, 70, 78})
"""The exit statuses after which none is started again: RestartPreventExitStatus= of the units, and what a test asks for
with a stop (systemd would start it again).
"""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Message:
    """One datagram of sd_notify(3)."""

    pid: int
    assignments: tuple[str, ...]
    descriptors: tuple[int, ...]

    def value(self, name: str) -> str | None:
        """The value of the last assignment to `name`."""
        return next(
            (line.partition("=")[2] for line in reversed(self.assignments) if line.startswith(f"{name}=")), None
        )


class NotifySocket:
    """What $NOTIFY_SOCKET leads to. The kernel tells who has sent a message."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind(path)
        self.socket.setblocking(False)

    def receive(self) -> Message | None:
        """The next message; None if there is none."""
        room = socket.CMSG_SPACE(12) + socket.CMSG_SPACE(4 * MOST_DESCRIPTORS_IN_A_MESSAGE)
        try:
            text, ancillary, _, _ = self.socket.recvmsg(65536, room, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        pid, descriptors = 0, array("i")
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
            elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                pid = struct.unpack("iII", data)[0]
        return Message(pid, tuple(text.decode().split("\n")), tuple(descriptors))

    def close(self) -> None:
        """Close it and remove its name."""
        self.socket.close()
        os.unlink(self.path)


@dataclass
class Store:
    """The descriptors that are kept, the newest first."""

    most: int = 1 << 20
    """FileDescriptorStoreMax="""
    kept: list[tuple[str, int]] = field(default_factory=list)
    _watched: select.epoll = field(default_factory=select.epoll)

    def fileno(self) -> int:
        """Readable when `drop_ended` has something to do."""
        return self._watched.fileno()

    def add(self, message: Message) -> None:
        """FDSTORE=1."""
        for descriptor in message.descriptors:
            if len(self.kept) >= self.most or any(is_same_file(each, descriptor) for _, each in self.kept):
                os.close(descriptor)
                continue
            self.kept.insert(0, (message.value("FDNAME") or "stored", descriptor))
            if message.value("FDPOLL") != "0":
                try:
                    self._watched.register(descriptor, 0)
                except PermissionError:
                    pass  # A file that has no end of its own: epoll_ctl(2)

    def remove(self, name: str) -> None:
        """FDSTOREREMOVE=1."""
        for each in [each for each in self.kept if each[0] == name]:
            self.kept.remove(each)
            os.close(each[1])

    def drop_ended(self) -> None:
        """Drop those whose other end is closed, unless FDPOLL=0 has said not to."""
        for descriptor, _ in self._watched.poll(0):
            self._watched.unregister(descriptor)
            self.kept = [each for each in self.kept if each[1] != descriptor]
            os.close(descriptor)

    def drop(self) -> None:
        """Close all of them."""
        while self.kept:
            os.close(self.kept.pop()[1])


def is_same_file(one: int, other: int) -> bool:
    """Whether two descriptors are of one open file (kcmp(2)): systemd keeps only the first."""
    return int(_libc.syscall(SYS_KCMP, os.getpid(), os.getpid(), KCMP_FILE, one, other)) == 0


@dataclass
class Told:
    """What the service has said, and what became of it."""

    starts: int = 0
    ready: int = 0
    stopping: int = 0
    refused: int = 0
    """Messages of other processes than the main one (NotifyAccess=main)."""
    status: str = ""
    ends: list[int] = field(default_factory=list)
    """How each main process has ended, as Popen.returncode."""


class Manager:
    """Runs one service."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._command: Sequence[str] = options.command
        self._sockets: Sequence[tuple[str, int]] = options.socket
        self._is_blocking: bool = options.blocking
        self._ending_seconds: float = options.ending_seconds
        self._store = Store(options.most)
        self._notify = NotifySocket(f"{options.control}.notify")
        self._told = Told()
        self._barrier_seconds = 0.0
        self._limit: int | None = None
        """The most descriptors of the next main processes (LimitNOFILE=)."""
        self._barriers: list[tuple[float, int]] = []
        self._main = 0
        self._is_stopping = False
        self._is_killed = False
        self._status: int | None = None
        self._control = socket.socket(socket.AF_UNIX)
        self._control.bind(options.control)
        self._control.listen()
        self._wake, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(wakes, False)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGQUIT):
            signal.signal(number, lambda number, frame: None)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._notify.socket, selectors.EVENT_READ, self._read_notifications)
        self._selector.register(self._store.fileno(), selectors.EVENT_READ, self._store.drop_ended)
        self._selector.register(self._control, selectors.EVENT_READ, self._answer)
        self._selector.register(self._wake, selectors.EVENT_READ, self._read_signals)

    def run(self) -> int:
        """Run the service until it ends for good. Return its exit status, or LEFT_SOMETHING."""
        self._start()
        while self._status is None:
            self._wait_for_events()
        self._store.drop()
        self._close_barriers(float("inf"))
        return self._status if self._wait_for_the_rest() else LEFT_SOMETHING

    def _wait_for_events(self) -> None:
        first = min((due for due, _ in self._barriers), default=None)
        timeout = None if first is None else max(0.0, first - time.monotonic())
        calls: list[Callable[[], None]] = [key.data for key, _ in self._selector.select(timeout)]
        # What a process has said before its end is handled before its end, as in systemd.
        self._read_notifications()
        for call in calls:
            call()
        self._close_barriers(time.monotonic())

    # ---- processes

    def _start(self) -> None:
        passed = [*self._sockets, *self._store.kept]
        variables = {"NOTIFY_SOCKET": self._notify.path, "CLUSTERD_DESCRIPTOR_STORE": "yes"}
        if passed:
            variables |= {"LISTEN_FDS": str(len(passed)), "LISTEN_FDNAMES": ":".join(name for name, _ in passed)}
        self._told.starts += 1
        for _, descriptor in self._sockets:
            # NonBlocking=. The flag is the open file's, which what an earlier master has left uses too.
            os.set_blocking(descriptor, self._is_blocking)
        self._main = os.fork()
        if self._main == 0:
            try:
                execute(self._command, [descriptor for _, descriptor in passed], variables, self._limit)
            finally:
                os._exit(203)  # systemd.exec(5): EXIT_EXEC

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid != self._main:
                continue
            code = os.waitstatus_to_exitcode(status)
            self._told.ends.append(code)
            self._main = 0
            if code not in ENDS and not self._is_stopping:
                self._start()
            else:
                self._status = code if code >= 0 else 128 - code

    def _read_signals(self) -> None:
        for number in os.read(self._wake, 4096):
            if number == signal.SIGTERM and self._main:
                self._is_stopping = True
                os.kill(self._main, signal.SIGTERM)
            elif number == signal.SIGQUIT:
                self._is_stopping = self._is_killed = True
                self._kill_all()
        self._reap()

    def _wait_for_the_rest(self) -> bool:
        """Whether what the master has left behind has ended by itself."""
        deadline = time.monotonic() + self._ending_seconds
        is_late = False
        while True:
            self._reap()
            if not children():
                return not is_late
            is_late = is_late or time.monotonic() > deadline
            if is_late or self._is_killed:
                self._kill_all()
            if select.select([self._wake], [], [], 1.0)[0]:
                self._read_signals()

    def _kill_all(self) -> None:
        for pid in children():
            os.kill(pid, signal.SIGKILL)

    # ---- notifications

    def _read_notifications(self) -> None:
        while (message := self._notify.receive()) is not None:
            if "BARRIER=1" in message.assignments:
                due = time.monotonic() + self._barrier_seconds
                self._barriers += [(due, descriptor) for descriptor in message.descriptors]
            elif message.pid == self._main:
                self._handle(message)
            else:
                self._told.refused += 1
                for descriptor in message.descriptors:
                    os.close(descriptor)
        self._close_barriers(time.monotonic())

    def _handle(self, message: Message) -> None:
        self._told.ready += message.value("READY") == "1"
        self._told.stopping += message.value("STOPPING") == "1"
        self._told.status = message.value("STATUS") or self._told.status
        if message.value("FDSTORE") == "1":
            self._store.add(message)
        if message.value("FDSTOREREMOVE") == "1" and (name := message.value("FDNAME")):
            self._store.remove(name)

    def _close_barriers(self, now: float) -> None:
        for barrier in [each for each in self._barriers if each[0] <= now]:
            self._barriers.remove(barrier)
            os.close(barrier[1])

    # ---- what a test asks for

    def _answer(self) -> None:
        connection, _ = self._control.accept()
        with connection, connection.makefile("rw") as stream:
            question = json.loads(stream.readline())
            match question["command"]:
                case "drop":
                    self._store.drop()
                case "start another":
                    self._start()
                case "limit descriptors":
                    self._limit = question["limit"]
                case "delay barriers":
                    self._barrier_seconds = question["seconds"]
            stored = [[name, os.readlink(f"/proc/self/fd/{each}")] for name, each in self._store.kept]
            answer: dict[str, Any] = {"pid": self._main, "stored": stored, **vars(self._told)}
            stream.write(json.dumps(answer) + "\n")


def execute(command: Sequence[str], descriptors: Sequence[int], variables: dict[str, str], limit: int | None) -> None:
    """Become the service: the descriptors from 3 on (sd_listen_fds(3)), no signal ignored."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    # First above all targets, so that no target is overwritten before it has been moved.
    above = 3 + len(descriptors)
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, above) for descriptor in descriptors]
    for target, descriptor in enumerate(moved, 3):
        os.dup2(descriptor, target, inheritable=True)
    environment = {**os.environ, **variables, "LISTEN_PID": str(os.getpid()), "SYSTEMD_EXEC_PID": str(os.getpid())}
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    os.execvpe(command[0], list(command), environment)


def children() -> list[int]:
    """The pids of this process's children, adopted ones included."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]


def named(argument: str) -> tuple[str, int]:
    """NAME=DESCRIPTOR."""
    name, _, descriptor = argument.partition("=")
    return name, int(descriptor)


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("control")
    parser.add_argument("--most", type=int, default=1 << 20)
    parser.add_argument("--ending-seconds", type=float, default=60.0)
    parser.add_argument("--blocking", action="store_true", help="NonBlocking=no")
    parser.add_argument("--socket", type=named, action="append", default=[])
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    if _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")
    return Manager(options).run()


if __name__ == "__main__":
    sys.exit(main())

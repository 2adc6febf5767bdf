"""Runs a program for each host, some of them at the same time, and ends them all if it is left early.

A program has ended when its process has: its output may be held open by others, such as the ssh that ControlPersist of
ssh_config(5) leaves behind.
"""

import os
import selectors
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import field
from enum import StrEnum
from types import FrameType

from clusterd.cli.hosts.ssh_command import RemoteCommand
from clusterd.records import dataclass

MOST_AT_ONCE = 32
"""How many run at the same time. The others wait for one to end."""
MOST_BYTES = 8 << 20
"""The longest output of one program. `top` with a thousand slots has 4 MiB."""
GRACE_SECONDS = 2.0
"""How long a program may take to end when it is told to."""
_READ_BYTES = 1 << 16
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """A signal told this process to end. All programs have been ended."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.strsignal(number))
        self.number = number


class Cut(StrEnum):
    """Why a program was ended by this process."""

    LATE = "late"
    TOO_LONG = "too long"


@dataclass(frozen=True, slots=True)
class Line:
    """A program has written a line."""

    host: str
    text: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """A program has ended."""

    host: str
    status: int
    """The exit status, negative for a signal."""
    output: bytes
    """All of its standard output."""
    errors: bytes
    cut: Cut | None = None


@dataclass(slots=True)
class _Running:
    host: str
    process: "subprocess.Popen[bytes]"
    descriptor: int
    """Readable when the process has ended (pidfd_open(2))."""
    deadline: float
    stdin: memoryview
    written: dict[int, bytearray] = field(default_factory=dict)
    """What was read from each of its pipes."""
    keeps_lines: bool = True
    told: int = 0
    """How much of the output that is kept has been told in lines."""

    @property
    def size(self) -> int:
        """How much of what the program has written is kept, in bytes."""
        return sum(map(len, self.written.values()))


def run_all(
    commands: Mapping[str, RemoteCommand], seconds: float | None, *, keeps_lines: bool = True
) -> Generator[Line | Ended, None, None]:
    """Yield the lines of each program as they come, and its end. `seconds` is the time limit of each, None for none.

    With `keeps_lines` the end has them too, and MOST_BYTES are allowed; without it a program may write for ever.
    Raises Interrupted. Closing the generator ends the programs too.
    """
    waiting = deque(commands.items())
    running: dict[int, _Running] = {}
    with selectors.DefaultSelector() as selector, _signals(selector) as signals:
        try:
            while waiting or running:
                while waiting and len(running) < MOST_AT_ONCE:
                    host, command = waiting.popleft()
                    started = _start(host, command, seconds, selector)
                    started.keeps_lines = keeps_lines
                    running[started.descriptor] = started
                yield from _turn(selector, running, signals)
        finally:
            _end(running.values())
            for each in running.values():
                _close(each, selector)


def _turn(selector: selectors.BaseSelector, running: dict[int, _Running], signals: int) -> Iterator[Line | Ended]:
    """Wait until something happens, and handle it."""
    soonest = min(each.deadline for each in running.values())
    ready = selector.select(None if soonest == float("inf") else max(0.0, soonest - time.monotonic()))
    interrupted_by = 0
    for key, _ in ready:
        if key.fd == signals:
            # All signals that Python handles are told here.
            interrupted_by = next(filter(_ENDING.__contains__, os.read(signals, _READ_BYTES)), 0)
            continue
        each: _Running = key.data
        if key.fd == each.descriptor or each.descriptor not in running:
            continue
        if key.events == selectors.EVENT_WRITE:
            _write(each, selector)
        else:
            _read(each, key.fd, selector)
            yield from _lines(each)
    now = time.monotonic()
    late = {each.host for each in running.values() if each.deadline <= now and each.process.poll() is None}
    _end([each for each in running.values() if each.host in late])
    for each in list(running.values()):
        has_ended = each.process.poll() is not None
        if has_ended:
            _read_rest(each, selector)
            yield from _lines(each)
        if each.size <= MOST_BYTES and not has_ended:
            continue
        cut = Cut.TOO_LONG if each.size > MOST_BYTES else Cut.LATE if each.host in late else None
        _end([each])
        del running[each.descriptor]
        _close(each, selector)
        output, errors = each.written.values()
        yield Ended(each.host, each.process.returncode, bytes(output), bytes(errors), cut)
    if interrupted_by:  # only now, as what has ended before is told
        raise Interrupted(interrupted_by)


def _start(host: str, command: RemoteCommand, seconds: float | None, selector: selectors.BaseSelector) -> _Running:
    process = subprocess.Popen(
        command.words,
        stdin=subprocess.PIPE if command.stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        # Ctrl-C is for this program, which ends it and tells how far its host had got.
        process_group=0,
    )
    deadline = float("inf") if seconds is None else time.monotonic() + seconds
    each = _Running(host, process, os.pidfd_open(process.pid), deadline, memoryview(command.stdin))
    selector.register(each.descriptor, selectors.EVENT_READ, each)
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        os.set_blocking(pipe.fileno(), False)
        each.written[pipe.fileno()] = bytearray()
        selector.register(pipe.fileno(), selectors.EVENT_READ, each)
    if process.stdin is not None:
        os.set_blocking(process.stdin.fileno(), False)
        selector.register(process.stdin.fileno(), selectors.EVENT_WRITE, each)
    return each


def _write(each: _Running, selector: selectors.BaseSelector) -> None:
    pipe = each.process.stdin
    assert pipe is not None
    try:
        each.stdin = each.stdin[os.write(pipe.fileno(), each.stdin) :]
    except BrokenPipeError:  # It does not read; its end says why.
        each.stdin = each.stdin[:0]
    if not each.stdin:
        selector.unregister(pipe.fileno())
        pipe.close()


def _read(each: _Running, descriptor: int, selector: selectors.BaseSelector) -> bool:
    """Read what is there. Returns whether there may be more."""
    try:
        block = os.read(descriptor, _READ_BYTES)
    except BlockingIOError:
        return False
    if not block:
        with suppress(KeyError):
            selector.unregister(descriptor)
    each.written[descriptor] += block
    return bool(block)


def _read_rest(each: _Running, selector: selectors.BaseSelector) -> None:
    """Read what a program that has ended has left in its pipes."""
    for descriptor in each.written:
        # Another process may still write into them.
        for _ in range(1 + MOST_BYTES // _READ_BYTES):
            if not _read(each, descriptor, selector):
                break


def _lines(each: _Running) -> Iterator[Line]:
    output = next(iter(each.written.values()))
    while (end := output.find(b"\n", each.told)) >= 0:
        line = Line(each.host, bytes(output[each.told : end]))
        each.told = end + 1
        if not each.keeps_lines:
            del output[: each.told]
            each.told = 0
        yield line


def _close(each: _Running, selector: selectors.BaseSelector) -> None:
    """Close the pipes of a program that has ended."""
    for pipe in (each.process.stdin, each.process.stdout, each.process.stderr):
        if pipe is not None and not pipe.closed:
            with suppress(KeyError):
                selector.unregister(pipe.fileno())
            pipe.close()
    selector.unregister(each.descriptor)
    os.close(each.descriptor)


def _end(programs: Iterable[_Running]) -> None:
    """Tell programs to end, and kill those that do not."""
    processes = [each.process for each in programs]
    for process in processes:
        process.terminate()
    patience = time.monotonic() + GRACE_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, patience - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _signals(selector: selectors.BaseSelector) -> Iterator[int]:
    """Have the selector tell of the signals that end this process, and yield the descriptor for it.

    An exception in a handler could arise between the start of a program and the note that it runs, and leave it behind.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        selector.register(ours.fileno(), selectors.EVENT_READ)
        before = {number: signal.getsignal(number) for number in _ENDING}
        previous = signal.set_wakeup_fd(theirs.fileno())
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:  # nohup, and background jobs of a shell
                signal.signal(number, _wake_up)
        try:
            yield ours.fileno()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(previous)


def _wake_up(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the number of the signal is in the socket."""

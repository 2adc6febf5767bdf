"""Runs a command for its output, without blocking the event loop and without asyncio's own subprocesses.

The master reaps all its children itself, so that the exit status of the command may be lost.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence

INHERITED = 3
"""The number of the inherited descriptor in the process."""


async def output_of(
    command: Sequence[str], environment: Mapping[str, str], seconds: float, *, inherited: int | None = None
) -> str:
    """Run a command and return its standard output. Raises OSError, TimeoutError; after that it is killed.

    With a descriptor to be `inherited` its errors are part of the output.
    """
    process, answers = _spawn(command, environment, inherited)
    try:
        async with asyncio.timeout(seconds):
            return await _read_all(answers)
    finally:
        os.close(answers)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # The master may have reaped it already.
            os.waitid(os.P_PIDFD, process, os.WEXITED)  # noqa: ASYNC222 - killed, it ends at once
        os.close(process)


def _spawn(command: Sequence[str], environment: Mapping[str, str], inherited: int | None) -> tuple[int, int]:
    """Start the command. Returns a pidfd of the process and a descriptor to read its output. Raises OSError."""
    answers, write_end = os.pipe()
    errors = (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0)
    try:
        pid = os.posix_spawn(
            command[0],
            list(command),
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, write_end, 1),
                *([errors] if inherited is None else _passed_on(inherited, write_end)),
            ],
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
        )
        # The master reaps only when the loop turns, so the pid cannot belong to another process yet.
        return os.pidfd_open(pid), answers
    except OSError:
        os.close(answers)
        raise
    finally:
        os.close(write_end)


def _passed_on(descriptor: int, write_end: int) -> list[tuple[int, int, int]]:
    return [(os.POSIX_SPAWN_DUP2, write_end, 2), (os.POSIX_SPAWN_DUP2, descriptor, INHERITED)]


async def _read_all(descriptor: int) -> str:
    """Read until the end of the pipe. Raises OSError."""
    loop = asyncio.get_running_loop()
    parts: list[bytes] = []
    is_over: asyncio.Future[None] = loop.create_future()

    def read() -> None:
        part = os.read(descriptor, 65536)
        parts.append(part)
        if not part and not is_over.done():
            is_over.set_result(None)

    loop.add_reader(descriptor, read)
    try:
        await is_over
    finally:
        loop.remove_reader(descriptor)
    return b"".join(parts).decode(errors="replace")

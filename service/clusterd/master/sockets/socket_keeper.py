"""Ask systemd, without blocking the event loop, whether it keeps the sockets that it has passed."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from clusterd.systemd.environment import clean_environment
from clusterd.systemd.socket_units import JOBS, kept_names, own_unit, units_question

_ANSWER_SECONDS = 1.0
"""The time limit for each of the two questions. A slower answer counts as none."""


class SocketKeeper:
    """Asks systemd about the service `unit` and its sockets. `unit` is None if this process is no service."""

    def __init__(self, unit: str | None, environ: Mapping[str, str], systemctl: str = "/usr/bin/systemctl") -> None:
        self._unit = unit
        self._systemctl = systemctl
        # MANAGERPID is set only for the services of a user's own manager (systemd.exec(5)).
        self._manager = "--user" if "MANAGERPID" in environ else "--system"
        self._environment = {**clean_environment(environ), "LC_ALL": "C", "SYSTEMD_COLORS": "0"}

    @classmethod
    def of_this_process(cls, environ: Mapping[str, str]) -> Self:
        """The keeper for the service whose main process is this one."""
        pid = os.getpid()
        cgroups = Path(f"/proc/{pid}/cgroup")
        return cls(own_unit(cgroups.read_text() if cgroups.exists() else "", environ, pid), environ)

    async def kept(self) -> frozenset[str] | None:
        """The names of the sockets that stay open after this service has stopped. None if systemd does not answer.

        A socket stays open unless its unit is inactive, or a job to stop or restart the unit is queued: systemd stops
        a service before its sockets. Any user may ask this over D-Bus.
        """
        if self._unit is None:
            return None
        try:
            jobs = await self._ask(*JOBS)
            return kept_names(self._unit, jobs, await self._ask(*units_question(self._unit)))
        except (OSError, TimeoutError):
            return None

    async def is_stopping(self) -> bool:
        """Whether systemd is stopping the service. False if systemd does not answer.

        Asked once, at the start. The signal of a stop that arrives before this process handles it is lost, because
        KillSignal= of the unit is a signal that is ignored by default.
        """
        if self._unit is None:
            return False
        try:
            state = await self._ask("show", "--no-pager", "--property=ActiveState", "--value", "--", self._unit)
        except (OSError, TimeoutError):
            return False
        return state.strip() == "deactivating"

    async def _ask(self, *question: str) -> str:
        """Run systemctl and return its output. Raises OSError, TimeoutError."""
        process, answers = self._spawn(question)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await _read_all(answers)
        finally:
            os.close(answers)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):  # The master may have reaped it already.
                os.waitid(os.P_PIDFD, process, os.WEXITED)  # noqa: ASYNC222 - killed, it ends at once
            os.close(process)

    def _spawn(self, question: Sequence[str]) -> tuple[int, int]:
        """Start systemctl. Returns a pidfd of the process and a descriptor to read its output. Raises OSError.

        asyncio's own subprocesses are not used, because the master reaps all its children itself.
        """
        answers, write_end = os.pipe()
        try:
            pid = os.posix_spawn(
                self._systemctl,
                [self._systemctl, self._manager, *question],
                self._environment,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, write_end, 1),
                    (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
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

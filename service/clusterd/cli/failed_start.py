"""The record of a start that failed, by which the next process of the service knows how long to wait before it tries.

systemd starts the service for each client that waits in a socket, whatever became of the last start: without a pause
that is thirty starts in five seconds. RestartSec= does not apply to them, and systemd's own growing pauses
(RestartSteps=) exist from 254 on only.

The record lies in the unit's RuntimeDirectory=. Reading it removes it, so that a start that an operator ends, or that
succeeds, leaves none behind.
"""

import json
import os
import select
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from clusterd.supervisor.decisions.stopping import ExitStatus

RECORD = "failed-start.json"
LEFT_FAILED = frozenset({ExitStatus.APPLICATION, ExitStatus.CONFIGURATION})
"""Exit statuses after which the unit does not start the service again (RestartPreventExitStatus=)."""

_FIRST_LISTENER = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3)."""


class Stage(StrEnum):
    """How far the start had come."""

    PREPARING = "preparing"
    """The configuration, the sockets: there was no master yet."""
    APPLICATION = "application"
    """The master ran, and its application did not start."""


@dataclass(frozen=True, slots=True)
class FailedStart:
    """A start that failed."""

    stage: Stage
    exit_status: int
    failures: int
    """How many attempts in a row have failed by now."""
    at: float
    """When the last one did, in seconds of CLOCK_MONOTONIC, which all processes share."""
    pause: float
    """Seconds until the next one."""
    reason: str

    def retry_at(self, *, clients_wait: bool) -> float:
        """When to try again: at once where the unit was left failed and no client waits, since an operator asks for it.

        In seconds of CLOCK_MONOTONIC.
        """
        if self.exit_status in LEFT_FAILED and not clients_wait:
            return self.at
        return self.at + self.pause


def take(directory: str | None) -> FailedStart | None:
    """The record in `directory` (None: there is no such directory), which is removed. None where there is none."""
    if directory is None:
        return None
    path = Path(directory, RECORD)
    try:
        text = path.read_text()
        path.unlink()
        fields = json.loads(text)
        return FailedStart(**{**fields, "stage": Stage(fields["stage"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None  # none, or one of another version


def leave(directory: str | None, failed: FailedStart) -> bool:
    """Write the record for the next process. False where that is not possible."""
    if directory is None:
        return False
    try:
        Path(directory, RECORD).write_text(json.dumps(asdict(failed)))
    except OSError:
        return False
    return True


def clients_wait(environ: Mapping[str, str]) -> bool:
    """Whether a connection waits in a socket that systemd has passed (LISTEN_FDS of sd_listen_fds(3))."""
    passed = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not passed.isdecimal():
        return False
    poll = select.poll()
    for descriptor in range(_FIRST_LISTENER, _FIRST_LISTENER + int(passed)):
        poll.register(descriptor, select.POLLIN)
    return any(events & select.POLLIN for _, events in poll.poll(0))


def wait(until: float) -> bool:
    """Wait for that time (CLOCK_MONOTONIC). False where a signal asks for the end instead; SIGHUP ends the wait.

    The signals are blocked, so that none is missed (linux/early_signals.py).
    """
    ends = {signal.SIGTERM, signal.SIGINT, signal.SIGURG}
    while (seconds := until - time.monotonic()) > 0:
        taken = signal.sigtimedwait(ends | {signal.SIGHUP}, seconds)
        if taken is not None:
            return taken.si_signo == signal.SIGHUP
    return True


def runtime_directory(environ: Mapping[str, str]) -> str | None:
    """The first of the unit's RuntimeDirectory=, where clusterd is started by systemd (systemd.exec(5))."""
    if "NOTIFY_SOCKET" not in environ:
        return None
    return environ.get("RUNTIME_DIRECTORY", "").split(":")[0] or None

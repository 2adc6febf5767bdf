"""The record of a failed start. It tells the next process of the service how long to wait before it tries again.

systemd starts the service for each client that waits in a socket, whatever the result of the last start. Without a
pause that makes thirty starts in five seconds. RestartSec= does not apply to such starts, and systemd's own growing
pauses (RestartSteps=) exist only from version 254.

The record is in the unit's RuntimeDirectory=. Reading it removes it, so a start that succeeds or that an operator ends
leaves no record behind.
"""

import json
import os
import select
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path

from clusterd.records import dataclass
from clusterd.supervisor.decisions.stopping import ExitStatus

RECORD = "failed-start.json"
LEFT_FAILED = frozenset({ExitStatus.APPLICATION, ExitStatus.CONFIGURATION})
"""The exit statuses after which systemd does not start the service again (RestartPreventExitStatus=)."""

_FIRST_LISTENER = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3)."""


class Stage(StrEnum):
    """How far the start came."""

    PREPARING = "preparing"
    """The configuration or the sockets failed. There was no master yet."""
    APPLICATION = "application"
    """The master ran, and its application did not start."""


@dataclass(frozen=True, slots=True)
class FailedStart:
    """A start that failed."""

    stage: Stage
    exit_status: int
    failures: int
    """How many attempts in a row have failed."""
    at: float
    """The time of the last failure, in seconds of CLOCK_MONOTONIC, which all processes share."""
    pause: float
    """Seconds from `at` to the next attempt."""
    reason: str

    def retry_at(self, *, clients_wait: bool) -> float:
        """Return when to try again, in seconds of CLOCK_MONOTONIC.

        The attempt is immediate if the unit was left failed and no client waits, because then an operator asks for it.
        """
        if self.exit_status in LEFT_FAILED and not clients_wait:
            return self.at
        return self.at + self.pause


def take(directory: str | None) -> FailedStart | None:
    """Read and remove the record in `directory`. Return None if there is no record or no directory (None)."""
    if directory is None:
        return None
    path = Path(directory, RECORD)
    try:
        text = path.read_text()
        path.unlink()
        fields = json.loads(text)
        return FailedStart(**{**fields, "stage": Stage(fields["stage"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None  # there is no record, or another version has written it


def leave(directory: str | None, failed: FailedStart) -> bool:
    """Write the record for the next process. Return False if that is not possible."""
    if directory is None:
        return False
    try:
        Path(directory, RECORD).write_text(json.dumps(asdict(failed)))
    except OSError:
        return False
    return True


def clients_wait(environ: Mapping[str, str]) -> bool:
    """Return whether a connection waits in a socket that systemd has passed (LISTEN_FDS of sd_listen_fds(3))."""
    passed = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not passed.isdecimal():
        return False
    poll = select.poll()
    for descriptor in range(_FIRST_LISTENER, _FIRST_LISTENER + int(passed)):
        poll.register(descriptor, select.POLLIN)
    return any(events & select.POLLIN for _, events in poll.poll(0))


def wait(until: float) -> bool:
    """Wait until that time (CLOCK_MONOTONIC). Return False if a signal asks the process to end. SIGHUP ends the wait.

    The signals are blocked, so that none is missed (linux/early_signals.py).
    """
    ends = {signal.SIGTERM, signal.SIGINT, signal.SIGURG}
    while (seconds := until - time.monotonic()) > 0:
        taken = signal.sigtimedwait(ends | {signal.SIGHUP}, seconds)
        if taken is not None:
            return taken.si_signo == signal.SIGHUP
    return True


def runtime_directory(environ: Mapping[str, str]) -> str | None:
    """Return the first directory of the unit's RuntimeDirectory=, or None without systemd (systemd.exec(5))."""
    if "NOTIFY_SOCKET" not in environ:
        return None
    return environ.get("RUNTIME_DIRECTORY", "").split(":")[0] or None

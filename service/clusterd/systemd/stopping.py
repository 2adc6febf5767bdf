"""Whether a master that has ended is followed by another: told by a flag that it leaves, and by systemd.

If another follows, it goes on with the workers. If not, `ExecStopPost=` ends them (cli/after_stop.py). The manager
itself cannot be asked: in a minimal Debian there is no D-Bus.
"""

from collections.abc import Mapping
from pathlib import Path

FLAG = "stopping"
"""The file in the unit's RuntimeDirectory= of a master that stops for good."""
NOTE = "died-by-itself"
"""The file of `ExecStopPost=` after a master that was not killed by an operator."""

NEVER_AGAIN = frozenset({"70", "78"})
"""RestartPreventExitStatus= of the units."""
_GONE_ON_WITH = frozenset({"signal", "core-dump", "watchdog", "oom-kill"})
"""Results ($SERVICE_RESULT, systemd.exec(5)) of a master that has died and left workers that serve."""


def leave_flag(directory: str | None) -> None:
    """Say that this master stops for good, so that nothing is to outlive it. Raises OSError."""
    if directory is not None:
        Path(directory, FLAG).touch()


def remove_flag(directory: str | None) -> None:
    """A master starts: what it finds is of an earlier one. Raises OSError."""
    if directory is not None:
        Path(directory, FLAG).unlink(missing_ok=True)


def has_flag(directory: str | None) -> bool:
    """Return whether the last master has left the flag."""
    return directory is not None and Path(directory, FLAG).exists()


def note_death(directory: str | None, environ: Mapping[str, str]) -> None:
    """Tell the next master how the last one has died, from the environment of ExecStopPost=. Raises OSError.

    SIGKILL is what operators and the kernel's OOM killer send. A master that dies of its own state crashes or hangs.
    """
    if directory is None:
        return
    is_killed = environ.get("SERVICE_RESULT") == "signal" and environ.get("EXIT_STATUS") == "KILL"
    if is_killed:
        Path(directory, NOTE).unlink(missing_ok=True)
    else:
        Path(directory, NOTE).touch()


def take_note_of_death(directory: str | None) -> bool:
    """Return whether the last master has died by itself, and remove the note of it."""
    if directory is None:
        return False
    try:
        Path(directory, NOTE).unlink()
    except OSError:  # There is none, or it would be found for ever.
        return False
    return True


def is_the_end(environ: Mapping[str, str], *, is_flagged: bool) -> bool:
    """Return whether the processes of the service are to end, from the environment of ExecStopPost= (systemd.exec(5)).

    A stop that systemd was asked for during the pause before a restart runs no ExecStopPost=. Then the processes end
    because systemd closes their channels with its store.
    """
    result = environ.get("SERVICE_RESULT", "")
    if is_flagged:
        return True
    if result == "exit-code":
        # A master that fails without having stopped leaves its workers to the next one.
        return environ.get("EXIT_STATUS") in NEVER_AGAIN
    # Among the others: success, timeout (systemd has lost its patience), protocol, resources, start-limit-hit.
    return result not in _GONE_ON_WITH

"""The variables by which systemd talks to one process, and which are no business of its children."""

from collections.abc import Mapping

LISTEN_VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES")
"""sd_listen_fds(3)."""

_NOTIFY_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "FDSTORE")

_PRIVATE = frozenset(LISTEN_VARIABLES + _NOTIFY_VARIABLES)


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a child: an application that notified systemd would speak for the whole service.

    JOURNAL_STREAM stays, for children share stderr.
    """
    return {name: value for name, value in environ.items() if name not in _PRIVATE}


def state_directory(environ: Mapping[str, str]) -> str | None:
    """The first directory of the unit's `StateDirectory=`, or None where systemd made none.

    systemd.exec(5): $STATE_DIRECTORY has absolute paths, several of them separated by colons.
    """
    return environ.get("STATE_DIRECTORY", "").split(":")[0] or None


def watchdog_seconds(environ: Mapping[str, str], pid: int) -> float | None:
    """How often at most the manager wants to hear of process `pid`, or None when it does not watch it.

    sd_watchdog_enabled(3). Send WATCHDOG=1 at half of it.
    """
    try:
        seconds = int(environ["WATCHDOG_USEC"]) / 1_000_000
        watched = int(environ.get("WATCHDOG_PID") or pid)
    except (KeyError, ValueError):
        return None
    return seconds if seconds > 0 and watched == pid else None

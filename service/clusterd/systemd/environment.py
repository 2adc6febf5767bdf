"""The environment variables by which systemd addresses one process. Its children must not inherit them."""

from collections.abc import Mapping

LISTEN_VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES")
"""sd_listen_fds(3)."""

_NOTIFY_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "FDSTORE")

DESCRIPTOR_STORE_VARIABLE = "CLUSTERD_DESCRIPTOR_STORE"
"""`yes` in a unit with FileDescriptorStoreMax= and KillMode=process. $FDSTORE exists only from systemd 254 on."""

_PRIVATE = frozenset((*LISTEN_VARIABLES, *_NOTIFY_VARIABLES, DESCRIPTOR_STORE_VARIABLE))


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a child. An application that notified systemd would speak for the whole service.

    JOURNAL_STREAM is kept, because children share stderr.
    """
    return {name: value for name, value in environ.items() if name not in _PRIVATE}


def state_directory(environ: Mapping[str, str]) -> str | None:
    """Return the first directory of the unit's `StateDirectory=`, or None if systemd created none.

    systemd.exec(5): $STATE_DIRECTORY contains absolute paths, separated by colons.
    """
    return environ.get("STATE_DIRECTORY", "").split(":")[0] or None


def runtime_directory(environ: Mapping[str, str]) -> str | None:
    """Return the first directory of the unit's RuntimeDirectory=, or None without systemd (systemd.exec(5))."""
    if "NOTIFY_SOCKET" not in environ:
        return None
    return environ.get("RUNTIME_DIRECTORY", "").split(":")[0] or None


def watchdog_seconds(environ: Mapping[str, str], pid: int) -> float | None:
    """Return the watchdog timeout of process `pid`, or None if the manager does not watch it.

    sd_watchdog_enabled(3). WATCHDOG=1 must be sent at half of this interval.
    """
    try:
        seconds = int(environ["WATCHDOG_USEC"]) / 1_000_000
        watched = int(environ.get("WATCHDOG_PID") or pid)
    except (KeyError, ValueError):
        return None
    return seconds if seconds > 0 and watched == pid else None

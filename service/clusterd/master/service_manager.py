"""Notify systemd (sd_notify(3)): readiness, stopping, the status line, the watchdog, requests for more time."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from clusterd.supervisor.actions import Announcement
from clusterd.systemd.notify import Notifier
from clusterd.systemd.stopping import leave_flag, remove_flag

EXTENSION_SECONDS = 30.0
"""The time that one EXTEND_TIMEOUT_USEC= asks for during a start, reload or stop."""
EXTEND_EVERY_SECONDS = 5.0


class ServiceManager:
    """Notifies systemd from the master's own event loop, so that a hung loop stops feeding the watchdog."""

    def __init__(
        self,
        notifier: Notifier,
        loop: asyncio.AbstractEventLoop,
        watchdog_seconds: float | None,
        status: Callable[[], str],
        busy: Callable[[], bool],
        runtime_directory: str | None,
    ) -> None:
        self._notifier = notifier
        self._loop = loop
        self._status = status
        self._busy = busy
        self._runtime_directory = runtime_directory
        self._last_status = ""
        self._watchdog_seconds = watchdog_seconds

    def start(self) -> None:
        """Start to feed the watchdog, and to ask for more time while the service is busy."""
        with suppress(OSError):
            remove_flag(self._runtime_directory)
        self._extend()
        if self._watchdog_seconds is not None:
            self._feed_watchdog(self._watchdog_seconds / 3)

    def announce(self, what: Announcement) -> None:
        """Send a state together with the current status line."""
        self._last_status = self._status()
        match what:
            case Announcement.READY:
                self._notifier.ready(self._last_status)
            case Announcement.STOPPING:
                self.stop_is_certain()
                self._notifier.stopping(self._last_status)

    def stop_is_certain(self) -> None:
        """Have `ExecStopPost=` end what outlives this master, whenever that dies from now on."""
        with suppress(OSError):  # Then that ends when systemd drops the descriptors that it keeps.
            leave_flag(self._runtime_directory)

    def update_status(self) -> None:
        """Send the status line if it has changed."""
        status = self._status()
        if status != self._last_status:
            self._last_status = status
            self._notifier.status(status)

    def _extend(self) -> None:
        if self._busy():
            self._notifier.extend_timeout(EXTENSION_SECONDS)
        self._notifier.flush()
        self._loop.call_later(EXTEND_EVERY_SECONDS, self._extend)

    def _feed_watchdog(self, every: float) -> None:
        self._notifier.watchdog()
        self._loop.call_later(every, self._feed_watchdog, every)

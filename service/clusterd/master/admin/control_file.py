"""Makes the control socket again where its file was removed, by a cleaner of temporary files or by hand.

Without it no one could ask, reload by clusterctl, or stop a clusterd that serves well, until a restart.
"""

import os
import socket
from pathlib import Path

from clusterd.config.model import UnixSockets
from clusterd.log import Logger
from clusterd.master.admin.control import ControlServer
from clusterd.master.sockets.binding import Binder, ListenError, remove
from clusterd.master.sockets.listeners import Listeners

LOOK_SECONDS = 1.0

_ANY_ACCESS = UnixSockets(mode=0o600, owner=None, group=None)
"""Not used: the binder has access of its own for control sockets."""


class ControlFile:
    """Looks at the file now and then. A socket that systemd has passed is systemd's to make again."""

    def __init__(self, listeners: Listeners, server: ControlServer, log: Logger) -> None:
        self._server = server
        self._log = log
        self._path: Path | None = None
        if "control" not in listeners.passed and listeners.control[0].family == socket.AF_UNIX:
            self._path = Path(listeners.control[0].getsockname())
        self._file = self._found()
        self._is_served = False
        """Whether a process listens there. If a master has made it again and died, systemd has kept the one before."""
        self._said = ""
        self._next = 0.0

    def look(self, now: float) -> None:
        """Bind again if the file is gone. `now` is time.monotonic()."""
        if self._path is None or now < self._next or not self._server.is_serving:
            return
        self._next = now + LOOK_SECONDS
        found = self._found()
        self._is_served = self._is_served or (found is not None and _is_served(self._path))
        if found is None or not self._is_served:
            self._bind(self._path)
        elif found == self._file:
            self._said = ""
        else:
            self._say(f"{self._path} is not the control socket of this clusterd any more: remove it, or restart")

    def _bind(self, path: Path) -> None:
        made: list[Path] = []
        try:
            self._server.serve_on(Binder(_ANY_ACCESS, made).bind_control(path))
        except (ListenError, OSError) as error:
            remove(made)  # Nothing is served there. The next look makes it again.
            self._say(f"the control socket {path} was removed and cannot be made again: {error}")
            return
        self._file = self._found()
        self._is_served = True
        self._log.warning(f"the control socket {path} was removed: it is there again")

    def _found(self) -> tuple[int, int] | None:
        """The device and inode of what is at the path."""
        try:
            status = os.stat(self._path) if self._path is not None else None
        except OSError:
            return None
        return None if status is None else (status.st_dev, status.st_ino)

    def _say(self, what: str) -> None:
        """Once, until something else is to be said or all is well."""
        if what != self._said:
            self._said = what
            self._log.error(what)


def _is_served(path: Path) -> bool:
    """Return whether a process listens at the path. One that cannot be asked now counts as listening."""
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.setblocking(False)
            sock.connect(str(path))
    except ConnectionRefusedError:
        return False
    except OSError:
        pass  # Its backlog is full, or this process has no descriptors.
    return True

"""Ask systemd, without blocking the event loop, whether it keeps the sockets that it has passed."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from clusterd.master.asking import output_of
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
        return await output_of([self._systemctl, self._manager, *question], self._environment, _ANSWER_SECONDS)

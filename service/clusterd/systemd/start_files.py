"""What systemd reads for a unit when it starts it, and never again: EnvironmentFile= and LoadCredential=.

A reload gets neither. So whoever has changed such a file, and reloads, is to be told.
"""

import glob
import json
import os
import stat
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from clusterd.systemd.environment import clean_environment

ASK_SECONDS = 5.0
"""For systemd to answer. Nobody waits for it."""
_MOST_ENTRIES = 1000
"""Of a directory of credentials that are looked at."""

_PROPERTIES = (
    "MainPID",
    "ExecMainStartTimestamp",
    "EnvironmentFiles",
    "LoadCredential",
    "LoadCredentialEncrypted",
    "ImportCredential",  # systemd 252 does not know it: last, for busctl ends there
)


@dataclass(frozen=True, slots=True)
class StartFile:
    """One of them."""

    setting: str
    """As the unit has it, such as `LoadCredential=db:/etc/app/db`."""
    path: str
    """Empty, or a relative one, where systemd looks for it in its own directories."""
    is_optional: bool = False
    """It may be missing."""
    is_pattern: bool = False
    """It may name several (glob(7))."""


@dataclass(frozen=True, slots=True)
class StartFiles:
    """Those of a unit, and when they were read."""

    unit: str
    started_at: float
    """In seconds since 1970."""
    files: tuple[StartFile, ...]

    def changed(self) -> list[str]:
        """Which have changed since: a line each, with the remedy."""
        remedy = f"a reload does not read it, `systemctl restart {self.unit}` does"
        return [
            f"{file.setting} has changed since the start, {self._moment}: {remedy}"
            for file in self.files
            if (changed_at := _changed_at(file)) is not None and changed_at > self.started_at
        ]

    def unseen(self) -> str | None:
        """Of which that cannot be seen from here: a line, with the remedy. None where there are none."""
        unseen = [file.setting for file in self.files if _changed_at(file) is None]
        if not unseen:
            return None
        what = f"{', '.join(unseen)}: the values date from the start, {self._moment}"
        return f"{what}; where they have changed since, `systemctl restart {self.unit}` reads them"

    @property
    def _moment(self) -> str:
        return datetime.fromtimestamp(self.started_at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def ask_for_start_files(pid: int) -> StartFiles | None:
    """Those of the unit whose main process is `pid`, this process. Waits for systemd; None where it does not tell.

    systemctl cannot show LoadCredential=, so busctl asks; both come with systemd.
    """
    try:
        with open("/proc/self/cgroup") as file:
            path = own_unit_path(file)
    except OSError:
        return None
    if path is None:
        return None
    unit = path.rpartition("/")[2]
    manager = ["--user"] if "/user@" in path else []
    target = ["org.freedesktop.systemd1", f"/org/freedesktop/systemd1/unit/{_escaped(unit)}"]
    command = ["busctl", *manager, "--json=short", "get-property", *target, "org.freedesktop.systemd1.Service"]
    try:
        answer = subprocess.run(
            [*command, *_PROPERTIES],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=clean_environment(os.environ),  # busctl tells systemd that it is ready
            timeout=ASK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return read_answer(answer.stdout, unit, pid)


def own_unit_path(lines: Iterable[str]) -> str | None:
    """The control group of the service that this process belongs to, by the lines of /proc/self/cgroup (cgroups(7))."""
    for line in lines:
        _, controllers, path = line.rstrip("\n").split(":", 2)
        if controllers in ("", "name=systemd") and path.endswith(".service"):
            return path
    return None


def read_answer(answer: str, unit: str, pid: int) -> StartFiles | None:
    """What busctl has printed: a line for each property that this systemd knows. None where `pid` is another."""
    try:
        values: dict[str, Any] = dict(
            zip(_PROPERTIES, (json.loads(line)["data"] for line in answer.splitlines()), strict=False)
        )
        if values["MainPID"] != pid:
            return None
        return StartFiles(unit, values["ExecMainStartTimestamp"] / 1e6, tuple(_files(values)))
    except (ValueError, TypeError, KeyError):
        return None


def _files(values: dict[str, Any]) -> Iterator[StartFile]:
    for path, is_optional in values["EnvironmentFiles"]:
        yield StartFile(f"EnvironmentFile={path}", path, is_optional, is_pattern=True)
    for setting in ("LoadCredential", "LoadCredentialEncrypted"):
        for name, path in values[setting]:
            yield StartFile(f"{setting}={name}:{path}", path)
    for pattern in values.get("ImportCredential", ()):
        yield StartFile(f"ImportCredential={pattern}", "")


def _changed_at(file: StartFile) -> float | None:
    """When it was changed last, or put in its place; 0.0 where there is none, None where that cannot be seen."""
    if not file.path.startswith("/"):
        return None
    paths = glob.glob(file.path) if file.is_pattern else [file.path]
    if not any(map(os.path.lexists, paths)):
        return 0.0 if file.is_optional and os.access(os.path.dirname(file.path), os.X_OK) else None
    try:
        return max(_latest(path) for path in paths)
    except OSError:
        return None


def _latest(path: str) -> float:
    """Raises OSError."""
    status, link = os.stat(path), os.lstat(path)
    if stat.S_ISSOCK(status.st_mode):
        raise OSError(f"{path} is a socket that is asked for a credential: it does not tell")
    latest = max(status.st_mtime, status.st_ctime, link.st_ctime)
    if os.path.isdir(path):
        with os.scandir(path) as entries:
            found = [entry.stat() for entry, _ in zip(entries, range(_MOST_ENTRIES), strict=False)]
        latest = max([latest, *(each.st_mtime for each in found), *(each.st_ctime for each in found)])
    return latest


def _escaped(name: str) -> str:
    """As the path of an object has it (sd_bus_path_encode(3))."""
    plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return "".join(
        each
        if each in plain or (number and each in "0123456789")
        else "".join(f"_{byte:02x}" for byte in each.encode())
        for number, each in enumerate(name)
    )

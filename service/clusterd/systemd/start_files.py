"""Finds changes in files that systemd reads only when it starts a unit: EnvironmentFile= and LoadCredential=.

A reload does not read such files again. An operator who has changed one and reloads must be told so.
"""

import glob
import json
import os
import stat
import subprocess
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from clusterd.records import dataclass
from clusterd.systemd.environment import clean_environment

ASK_SECONDS = 5.0
"""The time limit for systemd's answer. No request waits for it."""
_MOST_ENTRIES = 1000
"""How many files in a directory of credentials are checked."""

_PROPERTIES = (
    "MainPID",
    "ExecMainStartTimestamp",
    "EnvironmentFiles",
    "LoadCredential",
    "LoadCredentialEncrypted",
    "ImportCredential",  # the last one, because busctl of systemd 252 does not know it and stops there
)


@dataclass(frozen=True, slots=True)
class StartFile:
    """A file that systemd reads at the start."""

    setting: str
    """The line of the unit, such as `LoadCredential=db:/etc/app/db`."""
    path: str
    """The path. It is empty or relative if systemd looks for it in its own directories."""
    is_optional: bool = False
    """Whether the file may be missing."""
    is_pattern: bool = False
    """Whether the path may match several files (glob(7))."""


@dataclass(frozen=True, slots=True)
class StartFiles:
    """The files of a unit, and when systemd read them."""

    unit: str
    started_at: float
    """In seconds since 1970."""
    files: tuple[StartFile, ...]

    def changed(self) -> list[str]:
        """Return a line for each file that has changed since, with the remedy."""
        remedy = f"a reload does not read it, `systemctl restart {self.unit}` does"
        return [
            f"{file.setting} has changed since the start, {self._moment}: {remedy}"
            for file in self.files
            if (changed_at := _changed_at(file)) is not None and changed_at > self.started_at
        ]

    def unseen(self) -> str | None:
        """Return a line that names the files whose changes cannot be seen, with the remedy. None if there are none."""
        unseen = [file.setting for file in self.files if _changed_at(file) is None]
        if not unseen:
            return None
        what = f"{', '.join(unseen)}: the values date from the start, {self._moment}"
        return f"{what}; where they have changed since, `systemctl restart {self.unit}` reads them"

    @property
    def _moment(self) -> str:
        return datetime.fromtimestamp(self.started_at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def ask_for_start_files(pid: int) -> StartFiles | None:
    """Ask systemd for the files of the unit whose main process is `pid`, this process. None if it does not answer.

    systemctl cannot show LoadCredential=, so busctl is used. Both are part of systemd.
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
            env=clean_environment(os.environ),  # with NOTIFY_SOCKET, busctl would tell systemd that it is ready
            timeout=ASK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return read_answer(answer.stdout, unit, pid)


def own_unit_path(lines: Iterable[str]) -> str | None:
    """Return the control group of this process's service, from the lines of /proc/self/cgroup (cgroups(7))."""
    for line in lines:
        _, controllers, path = line.rstrip("\n").split(":", 2)
        if controllers in ("", "name=systemd") and path.endswith(".service"):
            return path
    return None


def read_answer(answer: str, unit: str, pid: int) -> StartFiles | None:
    """Parse busctl's output: one line for each property that systemd knows. None if the main process is not `pid`."""
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
    """Return when the file was last changed or replaced: 0.0 if it is absent, None if that cannot be seen."""
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
    """Return the latest change of the file, its link or its directory entries. Raises OSError."""
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
    """Escape the name for an object path (sd_bus_path_encode(3))."""
    plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return "".join(
        each
        if each in plain or (number and each in "0123456789")
        else "".join(f"_{byte:02x}" for byte in each.encode())
        for number, each in enumerate(name)
    )

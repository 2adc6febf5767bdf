"""Reads from the output of systemctl(1) whether systemd keeps the sockets that it has passed."""

import re
from collections.abc import Iterable, Iterator, Mapping

JOBS = ("list-jobs", "--plain", "--no-legend", "--no-pager")
"""Asked before the units: a job that is carried out between both questions then appears in one of the answers."""

_PROPERTIES = ("Id", "Triggers", "ActiveState", "FileDescriptorName")

_CLOSING_JOBS = {"stop", "restart", "try-restart"}
"""The jobs after which a socket unit has closed its sockets. A `start` job of an active unit changes nothing."""
_OPEN_STATES = {"active", "activating", "reloading"}


def units_question(unit: str) -> tuple[str, ...]:
    """Return the question about every socket unit, and about `unit` itself, which shows that systemctl has answered."""
    return ("show", "--no-pager", f"--property={','.join(_PROPERTIES)}", "--", unit, "*.socket")


def own_unit(cgroups: str, environ: Mapping[str, str], pid: int) -> str | None:
    """Return the unit whose main process is `pid`, from /proc/PID/cgroup; None if systemd did not execute it."""
    if environ.get("SYSTEMD_EXEC_PID") != str(pid):  # systemd.exec(5)
        return None
    for line in cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        services = re.findall(r"/_?([^/]+\.service)(?=/|$)", path)
        if services and controllers in ("", "name=systemd"):
            return str(services[-1])
    return None


def kept_names(unit: str, jobs: str, units: str) -> frozenset[str] | None:
    """Return the names (FileDescriptorName=) of the sockets that stay open for the next start of `unit`.

    Return None if `units` is not an answer: there is no bus, or systemd does not know `unit`.
    """
    closing = set(_closing(jobs.splitlines()))
    blocks = list(_blocks(units))
    if unit not in (block.get("Id") for block in blocks):
        return None
    return frozenset(
        block.get("FileDescriptorName", "")
        for block in blocks
        if unit in block.get("Triggers", "").split()
        and block.get("ActiveState") in _OPEN_STATES
        and block.get("Id") not in closing
    )


def _closing(lines: Iterable[str]) -> Iterator[str]:
    """Yield the units of closing jobs. A line is, for example, `42 clusterd.socket stop waiting`."""
    for line in lines:
        fields = line.split()
        if len(fields) >= 3 and fields[2] in _CLOSING_JOBS:
            yield fields[1]


def _blocks(text: str) -> Iterator[dict[str, str]]:
    """Yield the properties of each unit. `systemctl show` separates units by an empty line."""
    for block in text.split("\n\n"):
        yield dict(line.split("=", 1) for line in block.splitlines() if "=" in line)

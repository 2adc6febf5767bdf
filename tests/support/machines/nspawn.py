"""A container of systemd-nspawn as a process: started, waited for, and ended with all that is in it."""

import os
import secrets
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

_BOOT_SECONDS = 60.0


class BootError(Exception):
    """The container did not come up; the message holds the end of its console."""


def nspawn(directory: Path, *options: str) -> list[str]:
    """The command that boots what is in a directory; see systemd-nspawn(1) for the options."""
    return [
        "systemd-nspawn",
        "--quiet",
        "--register=no",
        "--keep-unit",
        "--console=pipe",
        "--notify-ready=yes",
        f"--directory={directory}",
        "--kill-signal=SIGKILL",
        "--system-call-filter=pidfd_getfd",  # Outside of a container nothing but the unit's own filter forbids it.
        *options,
        "--boot",
    ]


def dies_with_its_parent(*command: str) -> list[str]:
    """A command that gets SIGTERM when its parent is dead, upon which nspawn kills its PID 1. Killed, it would not."""
    return ["setpriv", "--pdeathsig", "TERM", *command]


class Container:
    """One that boots from the moment on in which this is made. Whoever makes it calls end()."""

    def __init__(self, command: Sequence[str]) -> None:
        self._groups = _own_control_groups()
        self._directory = tempfile.TemporaryDirectory(prefix="clusterd-system-")
        self._console = Path(self._directory.name, "console")
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(f"{self._directory.name}/notify")
        with self._console.open("wb") as output:
            self._process = subprocess.Popen(
                dies_with_its_parent(*command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "NOTIFY_SOCKET": f"{self._directory.name}/notify"},
                preexec_fn=lambda: _enter(self._groups),  # noqa: PLW1509  # there are no threads to trip over
            )
        self._leader: int | None = None

    def await_boot(self) -> int:
        """The pid of PID 1 inside, as seen from here, once nspawn has notified that the boot is over.

        Raises BootError when systemd inside does not say that it is ready.
        """
        self._notify.settimeout(_BOOT_SECONDS)
        while self._process.poll() is None:
            try:
                fields = self._notify.recv(4096).decode().splitlines()
            except TimeoutError:
                break
            for field in fields:
                if field.startswith("X_NSPAWN_LEADER_PID="):
                    self._leader = int(field.partition("=")[2])
            if "READY=1" in fields and self._leader is not None:
                # From now on nspawn's notifications are refused. Unread, they would fill the socket, and nspawn would
                # wait in the middle of one for ever.
                self._notify.close()
                return self._leader
        console = self._console.read_text(errors="replace")[-3000:]
        raise BootError(f"not ready (nspawn's exit status: {self._process.poll()})\n{console}")

    def has_ended(self) -> bool:
        """Whether everything in it is gone, as after a poweroff. A reboot is no end."""
        return self._process.poll() is not None

    def leader(self) -> int | None:
        """The pid of PID 1 inside now, which a reboot changes; None where there is none at the moment."""
        # A child of nspawn, which may itself be the child of a shell.
        children = _children(self._process.pid)
        candidates = [*children, *(pid for child in children for pid in _children(child))]
        return next((pid for pid in candidates if _is_first(pid)), None)

    def end(self) -> None:
        """Leave nothing behind: no process, no mount, no control group."""
        # The end of PID 1 is, by the kernel, the end of every process in its namespace; and nspawn's own end is that of
        # PID 1.
        leader = self.leader()
        if leader is not None:
            os.kill(leader, signal.SIGKILL)
        elif not self.has_ended():
            self._process.terminate()
        self._process.wait()
        self._notify.close()
        self._directory.cleanup()
        _remove(self._groups)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _is_first(pid: int) -> bool:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    (numbers,) = (line.split()[1:] for line in lines if line.startswith("NSpid:"))
    return len(numbers) > 1 and numbers[-1] == "1"


def _own_control_groups() -> Sequence[Path]:
    """A group of its own for the container in each hierarchy that systemd uses: two containers in one group
    share its tree and trip over each other. The same name in both: nspawn mirrors the one in the other.
    """
    mounts = {"name=systemd": Path("/sys/fs/cgroup/systemd"), "": Path("/sys/fs/cgroup/unified")}
    if not mounts[""].is_dir():
        mounts[""] = Path("/sys/fs/cgroup")
    name = f"clusterd-system-{secrets.token_hex(4)}"
    groups = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in mounts:
            group = mounts[controllers] / path.strip("/") / name
            group.mkdir()
            groups.append(group)
    return groups


def _enter(groups: Sequence[Path]) -> None:
    for group in groups:
        (group / "cgroup.procs").write_text("0")


def _remove(groups: Sequence[Path]) -> None:
    for group in groups:
        for directory, _, _ in os.walk(group, topdown=False):
            Path(directory).rmdir()

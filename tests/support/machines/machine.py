"""A Debian booted in a container with systemd as PID 1, on an overlay that vanishes with it."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.machines.nspawn import Container, nspawn

Completed = subprocess.CompletedProcess[str]
Process = subprocess.Popen[str]


class Machine:
    """A booted container: run commands in it, read and write its files, join its network."""

    def __init__(self, suite: str, leader: int) -> None:
        self.suite = suite
        self.leader = leader
        self.root = Path(f"/proc/{leader}/root")
        self._enter = ("nsenter", "--target", str(leader))

    def run(self, *command: str, check: bool = True, timeout: float = 90.0) -> Completed:
        """Run a command inside and wait for its end; with check, a failure shows what it printed."""
        entered = [*self._enter, "--all", "--", *command]
        with subprocess.Popen(entered, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                output, errors = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired as error:
                _end_command(process, signal.SIGKILL)
                state = self.root.joinpath("proc/loadavg").read_text()
                journal = self.journal("--output=short-monotonic", lines=60)
                raise AssertionError(f"{error}\n--- load {state}--- journal\n{journal}") from error
        done = Completed(command, process.returncode, output, errors)
        if check and done.returncode != 0:
            raise AssertionError(
                f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}{done.stderr}"
                f"\n--- journal\n{self.journal(lines=40)}"
            )
        return done

    def start(self, *command: str) -> Process:
        """Start a command inside and go on; its output is collected by communicate()."""
        entered = [*self._enter, "--all", "--", *command]
        return subprocess.Popen(entered, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def start_in_network(self, *command: str) -> Process:
        """Start a command of this machine (the host) that sees only the container's network."""
        entered = [*self._enter, "--net", "--", *command]
        return subprocess.Popen(entered, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def systemctl(self, *arguments: str, check: bool = True, timeout: float = 90.0) -> str:
        """What systemctl printed, both streams."""
        done = self.run("systemctl", "--no-pager", *arguments, check=check, timeout=timeout)
        return done.stdout + done.stderr

    def property(self, unit: str, name: str) -> str:
        """A property of a unit, such as ActiveState."""
        return self.systemctl("show", "--property", name, "--value", unit).strip()

    def journal(self, *arguments: str, lines: int = 1000) -> str:
        """The newest lines of the journal, messages only; arguments select, as `-u clusterd -p err`."""
        # What was just written may still be on its way to journald.
        self.run("journalctl", "--sync", check=False)
        select = ("--no-pager", "--quiet", "--output=cat", f"--lines={lines}", *arguments)
        return self.run("journalctl", *select, check=False).stdout

    def wait_for_journal(self, pattern: str, *arguments: str, seconds: int = 60) -> str:
        """The first line of the journal, past or to come, that a regular expression matches."""
        # In its process namespace too, without which journalctl shows what is there and follows nothing.
        inside = [*self._enter, "--all", "--", "timeout", str(seconds)]
        follow = [*inside, "journalctl", "--follow", "--quiet", "--output=cat", "--lines=all", *arguments]
        with subprocess.Popen(follow, stdout=subprocess.PIPE, text=True) as following:
            assert following.stdout is not None
            for line in following.stdout:
                if re.search(pattern, line):
                    _end_command(following, signal.SIGTERM)
                    return line
        raise AssertionError(f"no journal line matched {pattern!r} in {seconds} s:\n{self.journal(lines=60)}")

    def processes(self, word: str) -> list[str]:
        """The command lines of running processes (not zombies) that contain a word."""
        lines = []
        for process in self.root.glob("proc/[0-9]*/cmdline"):
            try:
                line = process.read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:
                continue
            if word in line:
                lines.append(line)
        return lines

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Create or replace a file inside, its directories too."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def read(self, path: str) -> str:
        """The text of a file inside."""
        return (self.root / path.lstrip("/")).read_text()

    def link(self, path: str, target: str) -> None:
        """Make path a symbolic link to target, replacing an earlier one in one step."""
        link = self.root / path.lstrip("/")
        fresh = link.with_name(link.name + ".new")
        fresh.symlink_to(target)
        fresh.replace(link)


def _end_command(process: Process, how: signal.Signals) -> None:
    """End what nsenter has forked into the process namespace, so that nsenter reaps it and ends as well.

    Killing nsenter instead would leave its child to the host's PID 1, and a namespace whose processes nobody reaps
    never ends.
    """
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        os.kill(int(child), how)


@contextmanager
def booted(suite: str, root: Path) -> Iterator[Machine]:
    """Boot a root, hand out the machine, and leave nothing behind: no process, no mount, no control group.

    Raises BootError when systemd inside does not say that it is ready.
    """
    container = Container(nspawn(root, "--private-network", "--volatile=overlay"))
    try:
        yield Machine(suite, container.await_boot())
    finally:
        container.end()

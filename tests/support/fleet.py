"""Hosts that are directories: a stand-in for ssh runs the commands for them here, each with a clusterctl of its own."""

import os
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.service import AS_BY_SYSTEMD, PATIENCE_SECONDS, Service

_SSH = """\
#!/bin/sh
# As ssh(1): the options, the host, and one word that the shell of the host interprets.
echo "$$" > "$FLEET/ssh.$$.pid"
while [ "$1" != -- ]; do shift; done
if [ ! -d "$FLEET/$2" ]; then
    echo "ssh: Could not resolve hostname $2: Name or service not known" >&2
    exit 255
fi
cd "$FLEET/$2"
PATH="$FLEET/$2/bin:/usr/bin:/bin" exec sh -c "$3"
"""


@dataclass
class Fleet:
    """Some hosts, below one directory."""

    directory: Path

    def __post_init__(self) -> None:
        self.ssh = self.directory / "ssh"
        self.ssh.write_text(_SSH)
        self.ssh.chmod(0o755)

    def add(self, name: str, script: str | None) -> None:
        """Add a host whose clusterctl is this shell script. None: it has none."""
        programs = self.directory / name / "bin"
        programs.mkdir(parents=True)
        if script is not None:
            (programs / "clusterctl").write_text(f"#!/bin/sh\n{script}\n")
            (programs / "clusterctl").chmod(0o755)

    def add_service(self, name: str, service: Service) -> None:
        """Add a host on which a service runs."""
        ours = [sys.executable, "-m", "clusterd.cli.clusterctl", "--socket", str(service.control)]
        paths = os.environ.get("PYTHONPATH", "")
        self.add(name, f'PYTHONPATH={shlex.quote(paths)} exec {shlex.join(ours)} "$@"')

    def begin(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start clusterctl with these arguments."""
        return subprocess.Popen(
            [*AS_BY_SYSTEMD, sys.executable, "-m", "clusterd.cli.clusterctl", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "FLEET": str(self.directory), "CLUSTERCTL_SSH": shlex.quote(str(self.ssh))},
        )

    def clusterctl(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run clusterctl to its end."""
        process = self.begin(*arguments)
        try:
            output, errors = process.communicate(timeout=PATIENCE_SECONDS)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
        return subprocess.CompletedProcess(arguments, process.returncode, output, errors)

    def pids(self) -> list[int]:
        """The processes that have been started in place of ssh. Each goes on as the shell of its host."""
        return sorted(int(path.name.split(".")[1]) for path in self.directory.glob("ssh.*.pid"))

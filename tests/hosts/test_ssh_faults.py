"""The script of docs/many-hosts.md where a program fails under it. ssh is a shell on a directory for each host."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hosts.test_ssh import script

# $1: root@HOST. What runs "there" finds the host's directory in place of /srv/app, and an idle clusterctl.
_SSH = """\
#!/bin/sh
host=${1#root@}; shift
exec sh -c "$(printf '%s ' "$@" | sed "s,/srv/app,$HOSTS/$host,g")"
"""
# Writes a part of the archive, as when a file cannot be read.
_HALF_AN_ARCHIVE = """\
#!/bin/sh
/usr/bin/tar "$@"
case "$*" in *-c*) exit 2 ;; esac
"""


@dataclass(frozen=True)
class Hosts:
    """Directories that stand for /srv/app of two hosts."""

    directory: Path

    def program(self, name: str, text: str) -> None:
        """Have a program that the script finds before others."""
        path = self.directory / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def link(self, host: str) -> Path:
        """Its link to the current release."""
        return self.directory / host / "current"

    def deploy(self) -> int:
        """Run the script for both; return its exit status."""
        environment = {
            "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}",
            "HOSTS": str(self.directory),
            "TMPDIR": str(self.directory / "tmp"),
        }
        command = ["sh", "-c", script(), "deploy", "new", str(self.directory / "source"), "one", "two"]
        return subprocess.run(command, env=environment, check=False).returncode


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    """Two hosts that serve the release "old"."""
    made = Hosts(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name / "releases/old").mkdir(parents=True)
        made.link(name).symlink_to("releases/old")
    for name in ("source", "tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "source/application.py").write_text("")
    made.program("ssh", _SSH)
    made.program("clusterctl", "#!/bin/sh\n")
    return made


def test_without_a_fault_both_hosts_have_the_release(hosts: Hosts) -> None:
    assert hosts.deploy() == 0
    assert [hosts.link(name).readlink() for name in ("one", "two")] == [Path("releases/new")] * 2
    assert (hosts.link("two") / "application.py").exists()
    assert list((hosts.directory / "tmp").iterdir()) == []


def test_a_directory_that_cannot_be_read_whole_is_deployed_to_no_host(hosts: Hosts) -> None:
    hosts.program("tar", _HALF_AN_ARCHIVE)
    assert hosts.deploy() != 0
    assert [hosts.link(name).readlink() for name in ("one", "two")] == [Path("releases/old")] * 2
    assert list((hosts.directory / "tmp").iterdir()) == []


def test_a_host_without_a_link_refuses_and_gets_no_broken_one(hosts: Hosts) -> None:
    hosts.link("two").unlink()
    assert hosts.deploy() == 1
    assert not hosts.link("two").is_symlink()
    assert hosts.link("one").readlink() == Path("releases/old")

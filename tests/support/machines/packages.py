"""The package as a file: what is in it, and others made of it."""

import io
import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from tests.support.machines.machine import Machine


def field(package: Path, name: str) -> str:
    """A field of its control file."""
    return _run("dpkg-deb", "--field", str(package), name).strip()


def unpacked(package: Path, directory: Path) -> Path:
    """Its files, and its control files in DEBIAN."""
    _run("dpkg-deb", "--raw-extract", str(package), str(directory))
    return directory


def paths(package: Path) -> set[str]:
    """Every file, directory and link in it, as it is named once installed."""
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    archive = subprocess.run(command, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        return {member.name.removeprefix(".").rstrip("/") or "/" for member in members}


def suffix(machine: Machine) -> str:
    """What versions for the Debian of a machine end with."""
    (number,) = re.findall(r'^VERSION_ID="?(\d+)"?$', machine.read("/etc/os-release"), re.MULTILINE)
    return f"~deb{number}"


def newer(package: Path, directory: Path) -> Path:
    """The same package in the next version, still one of that Debian."""
    return repacked(package, directory, _next_version(package))


def incompatible(package: Path, directory: Path) -> Path:
    """The next version, whose master cannot go on with the state of this one."""

    def change(files: Path) -> None:
        state = files / "usr/lib/clusterd/clusterd/master/takeover/state.py"
        text, count = re.subn(r"(?m)^FORMAT = \d+$", "FORMAT = 10**6", state.read_text())
        assert count == 1
        state.write_text(text)

    return repacked(package, directory, _next_version(package), change=change)


def _next_version(package: Path) -> str:
    upstream, _, debian = field(package, "Version").partition("~")
    return f"{upstream}+1~{debian}"


def repacked(
    package: Path,
    directory: Path,
    version: str,
    python: str | None = None,
    change: Callable[[Path], None] = lambda files: None,
) -> Path:
    """The same package in another version, with an engine for another `python`, as in cpython-313, or with a change."""
    files = unpacked(package, directory / "files")
    control = files / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*$", f"Version: {version}", control.read_text()))
    for library in (files / "usr/lib/clusterd").rglob("*.so") if python else ():
        library.rename(library.with_name(re.sub(r"cpython-\d+", python or "", library.name)))
    change(files)
    made = directory / f"clusterd_{version}_{field(package, 'Architecture')}.deb"
    _run("dpkg-deb", "--root-owner-group", "--build", str(files), str(made))
    return made


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout

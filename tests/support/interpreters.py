"""The Python interpreters of this machine, beside the one that runs the tests."""

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

Version = tuple[int, int]
RUNNING: Version = sys.version_info[:2]
SUPPORTED: tuple[Version, ...] = ((3, 11), (3, 12), (3, 13), (3, 14))
"""Those that clusterd is for (setup.cfg)."""
REQUIREMENTS = Path(__file__).parents[2] / "requirements" / "run.txt"


@cache
def interpreters() -> dict[Version, str]:
    """By version: those on PATH, and those of pyenv."""
    directories = [Path(each) for each in os.get_exec_path()] + sorted(Path.home().glob(".pyenv/versions/*/bin"))
    found: dict[Version, str] = {}
    for directory in directories:
        for path in directory.glob("python[0-9]*"):
            named = re.fullmatch(r"python([0-9])\.([0-9]+)", path.name)
            if named is None:
                continue
            version = (int(named[1]), int(named[2]))
            # pyenv's shims bear the name of every version, and run only those that are selected.
            if version not in found and _runs(path):
                found[version] = str(path)
    return found


def _runs(path: Path) -> bool:
    return subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0


def others(*, at_least: Version = (0, 0), below: Version = (99, 0)) -> list[Version]:
    """The versions in a range, without that of the tests."""
    return sorted(version for version in interpreters() if at_least <= version < below and version != RUNNING)


def virtual_environment(version: Version, directory: Path) -> str:
    """A new environment of that version without anything in it; its python."""
    subprocess.run([interpreters()[version], "-m", "venv", directory], check=True, capture_output=True)
    return str(directory / "bin" / "python")


def install(python: str, name: str) -> None:
    """Install one of the locked requirements."""
    blocks = re.split(r"\n(?=\S)", REQUIREMENTS.read_text())
    (locked,) = [block for block in blocks if block.startswith(f"{name}==")]
    requirement = Path(python).parent / f"{name}.txt"
    requirement.write_text(locked)
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    subprocess.run([python, "-m", "pip", "install", *options, "-r", requirement], check=True, capture_output=True)


def main() -> None:
    """Print the supported interpreters that this machine has: `make wheels` compiles for each."""
    for version in SUPPORTED:
        if version in interpreters():
            print(interpreters()[version])
        else:
            print(f"no wheel for Python {version[0]}.{version[1]}: this machine has none", file=sys.stderr)


if __name__ == "__main__":
    main()

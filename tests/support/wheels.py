"""Builds clusterd as pip does, and installs what was built."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.interpreters import REQUIREMENTS, Version, virtual_environment

_REPOSITORY = Path(__file__).parents[2]
_SOURCES = ("LICENSE", "README.md", "pyproject.toml", "setup.cfg", "setup.py", "service")
_PIP = ("-m", "pip", "--disable-pip-version-check")


def copy_of_sources(directory: Path) -> Path:
    """A copy of all that the package is made of, which has nothing of an earlier build."""
    directory.mkdir()
    for name in _SOURCES:
        source = _REPOSITORY / name
        if source.is_dir():
            shutil.copytree(
                source, directory / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "*.so")
            )
        else:
            shutil.copy(source, directory)
    return directory


def sdist(sources: Path, destination: Path) -> Path:
    """Pack the sources as `python -m build --sdist` does."""
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(destination)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=sources, check=True, capture_output=True)
    (made,) = destination.glob("clusterd-*.tar.gz")
    return made


def build_wheel(source: Path, destination: Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Have pip build a wheel, by the tools of this environment."""
    return subprocess.run(
        [sys.executable, *_PIP, "wheel", "-v", "--no-deps", "--no-build-isolation", "--wheel-dir", destination, source],
        env={**_environment(), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def version_of(wheel: Path) -> Version | None:
    """The Python that a wheel is compiled for; None if it is for every one."""
    tag = re.search(r"-cp(\d)(\d+)-", wheel.name)
    return (int(tag[1]), int(tag[2])) if tag else None


def install_wheel(wheel: Path, version: Version, directory: Path) -> str:
    """A new environment with the wheel and the locked versions of what it requires; its python."""
    python = virtual_environment(version, directory)
    for arguments in (
        ("install", "--quiet", "--require-hashes", "--only-binary", ":all:", "-r", REQUIREMENTS),
        ("install", "--quiet", "--no-index", wheel),
    ):
        subprocess.run([python, *_PIP, *arguments], env=_environment(), check=True, capture_output=True)
    return python


def _environment() -> dict[str, str]:
    """Without what tells pip or setup.py of anything else than what they are given."""
    return {name: value for name, value in os.environ.items() if name not in ("CC", "CLUSTERD_COMPILE", "PYTHONPATH")}

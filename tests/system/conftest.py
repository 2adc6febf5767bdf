"""Machines for the system ring: the built package, installed on a booted Debian 12 and a booted Debian 13."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machines.fixtures import able_machine, package, suite_root
from tests.support.machines.machine import Machine, booted

__all__ = ["able_machine", "package", "suite_root"]


@pytest.fixture
def bare_machine(suite_root: tuple[str, Path]) -> Iterator[Machine]:
    """A booted Debian without clusterd."""
    suite, root = suite_root
    with booted(suite, root) as machine:
        yield machine


@pytest.fixture
def machine(bare_machine: Machine, package: Path) -> Machine:
    """A booted Debian with the package installed as an administrator would: while systemd runs."""
    install(bare_machine, package)
    return bare_machine


def install(machine: Machine, package: Path) -> None:
    """Install (or install again) the package with dpkg."""
    inside = machine.root / "root" / package.name
    shutil.copyfile(package, inside)
    machine.run("dpkg", "--install", f"/root/{package.name}")

"""Machines for the system ring: the built package, installed on a booted Debian 12 and a booted Debian 13."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machines.building import built_package
from tests.support.machines.machine import Machine, booted
from tests.support.machines.prerequisites import missing_prerequisite
from tests.support.machines.roots import RootUnavailableError, cached_root

SUITES = ("bookworm", "trixie")


def _stand_aside(missing: str) -> None:
    message = f"the system ring needs {missing}"
    # Where tests gate a change, a ring that silently did not run would be a hole.
    if os.environ.get("CI") == "true":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.fixture(scope="session")
def able_machine() -> None:
    """Skips the ring where it cannot run."""
    missing = missing_prerequisite()
    if missing is not None:
        _stand_aside(missing)


@pytest.fixture(scope="session", params=SUITES)
def suite_root(request: pytest.FixtureRequest, able_machine: None) -> tuple[str, Path]:
    """A suite and its root."""
    suite: str = request.param
    try:
        return suite, cached_root(suite)
    except RootUnavailableError as error:
        _stand_aside(f"a Debian root: {error}")
        raise


@pytest.fixture(scope="session")
def package(suite_root: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .deb of this working tree, built in that Debian: by `make packages` before, or else now."""
    suite, _ = suite_root
    built = Path(os.environ.get("CLUSTERD_PACKAGES", "/nowhere"), suite)
    if found := list(built.glob("clusterd_*.deb")):
        (deb,) = found
        return deb
    try:
        return built_package(suite, tmp_path_factory.mktemp("package"))
    except RootUnavailableError as error:
        _stand_aside(f"a Debian root: {error}")
        raise


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

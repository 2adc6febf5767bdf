"""Machines for the system ring: the built package, installed on a booted Debian 12 and a booted Debian 13."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.system.machine import Machine, booted
from tests.system.prerequisites import missing_prerequisite
from tests.system.roots import BUILD_PACKAGES, PACKAGES, RootUnavailableError, cached_root

SUITES = ("bookworm", "trixie")
_REPOSITORY = Path(__file__).parents[2]


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
    return suite, _root(suite, PACKAGES)


def _root(suite: str, packages: Sequence[str]) -> Path:
    try:
        return cached_root(suite, packages)
    except RootUnavailableError as error:
        _stand_aside(f"a Debian root: {error}")
        raise


@pytest.fixture(scope="session")
def package(suite_root: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .deb of this working tree, built in that Debian: the engine is compiled for its Python."""
    suite, _ = suite_root
    directory = tmp_path_factory.mktemp("package")
    command = [_REPOSITORY / "packaging/build-deb", directory, _root(suite, BUILD_PACKAGES)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    # Whoever waits for minutes sees what for.
    assert "==> compiling the engine" in built.stdout
    (deb,) = directory.glob("clusterd_*.deb")
    return deb


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

"""What the rings need that boot Debian: a root of each suite, and the package of this working tree."""

import os
from pathlib import Path

import pytest

from tests.support.machines.building import built_package
from tests.support.machines.prerequisites import missing_prerequisite
from tests.support.machines.roots import RootUnavailableError, cached_root

SUITES = ("bookworm", "trixie")


def _stand_aside(missing: str) -> None:
    message = f"this ring needs {missing}"
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

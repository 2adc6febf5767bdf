"""Builds the Debian package of this working tree: `python -m tests.support.machines.building SUITE DIRECTORY`."""

import subprocess
import sys
from pathlib import Path

from tests.support.machines.roots import BUILD_PACKAGES, RootUnavailableError, cached_root

_BUILD = Path(__file__).parents[3] / "packaging/build-deb"


def built_package(suite: str, directory: Path) -> Path:
    """The .deb, built in a root of that Debian, so that the engine is compiled for its Python.

    Raises RootUnavailableError, and RuntimeError with the log when the build fails.
    """
    command = [_BUILD, directory, cached_root(suite, BUILD_PACKAGES)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
        raise RuntimeError(f"{built.stdout}{built.stderr}")
    # A build takes minutes, and has to say what for.
    assert "==> compiling the engine" in built.stdout
    (deb,) = directory.glob("clusterd_*.deb")
    return deb


if __name__ == "__main__":
    try:
        print(built_package(sys.argv[1], Path(sys.argv[2])))
    except RootUnavailableError as error:
        print(f"no package for {sys.argv[1]}: {error}")  # the tests that need it say so, too

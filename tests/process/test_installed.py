"""clusterd as pip installs it: what is compiled where, and that it serves from an environment of its own."""

import os
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from clusterd.http.compilation import COST
from tests.support.interpreters import RUNNING
from tests.support.service import Service
from tests.support.wheels import build_wheel, copy_of_sources, install_wheel, sdist, version_of

MakeService = Callable[..., Service]

BUILT = sorted(Path(os.environ.get("CLUSTERD_WHEELS", "none")).rglob("clusterd-*.whl"))
"""Compiled wheels that are there already: compiling takes minutes. `make test-compiled` and `make wheels` have some."""


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An sdist."""
    directory = tmp_path_factory.mktemp("sdist")
    return sdist(copy_of_sources(directory / "sources"), directory)


@pytest.fixture(scope="module")
def interpreted(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel without anything compiled."""
    directory = tmp_path_factory.mktemp("wheel")
    done = build_wheel(packed, directory, {"CLUSTERD_COMPILE": "0"})
    assert done.returncode == 0, done.stdout
    (wheel,) = directory.glob("*.whl")
    return wheel


def without_a_compiler(directory: Path) -> dict[str, str]:
    empty = directory / "bin"
    empty.mkdir()
    return {"PATH": str(empty)}


@pytest.mark.engine_independent
def test_without_a_compiler_it_is_installed_interpreted_and_says_so(packed: Path, tmp_path: Path) -> None:
    done = build_wheel(packed, tmp_path, without_a_compiler(tmp_path))
    assert done.returncode == 0, done.stdout
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    reason = "no C compiler was found when it was installed"
    assert f"at {COST}: {reason}.\n" in done.stdout
    assert "To have it compiled: apt install gcc python3-dev" in done.stdout
    with zipfile.ZipFile(wheel) as content:
        assert content.read("clusterd/http/interpreted.txt").decode() == f"{reason}\n"


@pytest.mark.engine_independent
def test_where_it_is_demanded_a_missing_compiler_is_an_error(packed: Path, tmp_path: Path) -> None:
    done = build_wheel(packed, tmp_path, {**without_a_compiler(tmp_path), "CLUSTERD_COMPILE": "1"})
    assert done.returncode != 0
    assert "CLUSTERD_COMPILE=1, but no C compiler was found" in done.stdout
    assert list(tmp_path.glob("*.whl")) == []


@pytest.mark.engine_independent
def test_an_engine_that_mypyc_refuses_is_never_installed_interpreted_instead(tmp_path: Path) -> None:
    sources = copy_of_sources(tmp_path / "sources")
    with (sources / "service/clusterd/http/engine.py").open("a", encoding="utf-8") as module:
        module.write("\ndef broken(:\n")
    done = build_wheel(sources, tmp_path, {})
    assert done.returncode != 0
    assert "http/engine.py:" in done.stdout
    assert "CLUSTERD_COMPILE=0 installs it interpreted" in done.stdout
    assert list(tmp_path.glob("*.whl")) == []


@pytest.mark.engine_independent
def test_a_build_leaves_nothing_that_the_next_one_would_pack(tmp_path: Path) -> None:
    sources = copy_of_sources(tmp_path / "sources")
    before = {path.name for path in sources.iterdir()}
    assert build_wheel(sources, tmp_path, {"CLUSTERD_COMPILE": "0"}).returncode == 0
    assert {path.name for path in sources.iterdir()} == before


@pytest.mark.engine_independent
def test_an_interpreted_wheel_serves_from_an_environment_of_its_own(
    make_service: MakeService, interpreted: Path, tmp_path: Path
) -> None:
    serves(make_service(), install_wheel(interpreted, RUNNING, tmp_path / "environment"), f"interpreted under .*{COST}")


@pytest.mark.skipif(not BUILT, reason="CLUSTERD_WHEELS names no directory with compiled wheels")
@pytest.mark.parametrize("wheel", BUILT, ids=lambda wheel: wheel.name)
def test_a_compiled_wheel_serves_from_an_environment_of_its_own(
    make_service: MakeService, wheel: Path, tmp_path: Path
) -> None:
    version = version_of(wheel)
    assert version is not None, f"{wheel} is not compiled"
    python = install_wheel(wheel, version, tmp_path / "environment")
    serves(make_service(), python, rf"compiled under Python {version[0]}\.{version[1]}\.")


def serves(service: Service, python: str, how: str) -> None:
    """Say how the engine runs, answer, reload and stop, from that environment alone."""
    service.python, service.environment = python, {"PYTHONPATH": ""}
    command = [str(Path(python).parent / "clusterd"), "--version"]
    environment = {**os.environ, "PYTHONPATH": ""}
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=service.directory)
    told = service.start().wait_for_line(f"the engine runs {how}")
    assert said.stdout.rstrip(")\n").partition("the engine runs ")[2] in told
    assert service.ask().generation == 1
    assert service.reload().returncode == 0
    assert service.ask().generation == 2
    assert service.stop() == 0

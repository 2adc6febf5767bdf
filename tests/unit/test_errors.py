"""What is said of an error of the application."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import clusterd
from clusterd.app.errors import describe, describe_text
from clusterd.wire.messages import BootFailed, encode

pytestmark = pytest.mark.engine_independent


def missing(name: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def environment(path: Path) -> Path:
    """Make what looks like a virtual environment. Returns its interpreter."""
    python = path / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch(mode=0o755)
    return python


LACKS = f"app: shop:app: ModuleNotFoundError: No module named 'flask'; {sys.executable} does not have it"


def test_a_missing_module_is_looked_for_in_another_interpreter(directory: Path) -> None:
    found = describe(missing("flask"), "app: shop:app")
    assert (
        found.reason
        == f"{LACKS} (python: names the interpreter of the application, such as that of its virtual environment)"
    )
    assert found.permanent


@pytest.mark.parametrize("name", [".venv", "venv", None])
def test_a_virtual_environment_nearby_is_named(
    directory: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    path = directory / name if name else tmp_path_factory.mktemp("elsewhere")
    python = environment(path)
    if name is None:
        monkeypatch.setenv("VIRTUAL_ENV", str(path))
    reason = describe(missing("flask"), "app: shop:app").reason
    assert reason == f"{LACKS} (python: {python} would use the virtual environment there)"


def test_the_interpreter_in_use_is_not_recommended(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment(directory / ".venv")
    (directory / "link").symlink_to(".venv")
    monkeypatch.setattr(sys, "prefix", str(directory / "link"))
    assert describe(missing("flask"), "app: shop:app").reason == LACKS


@pytest.mark.parametrize("is_installed", [True, False])
def test_an_environment_that_the_setting_names_has_no_hint_at_the_setting(
    directory: Path, monkeypatch: pytest.MonkeyPatch, is_installed: bool
) -> None:
    monkeypatch.setattr(sys, "prefix", str(directory))
    packages = directory / "site-packages"
    (packages / f"{'clusterd' if is_installed else 'clusterd_extras'}-1.0.dist-info").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(directory / "missing.zip"), str(packages)])
    reason = describe(missing("flask"), "app: shop:app").reason
    assert ("python: names the interpreter" in reason) is is_installed


@pytest.mark.parametrize("name", ["shop", "shop.wsgi"])
def test_the_module_of_the_application_is_looked_for_in_its_directory(directory: Path, name: str) -> None:
    reason = describe(missing(name), "app: shop.wsgi:app").reason
    assert reason.endswith(
        f"No module named {name!r} in {os.getcwd()} or on sys.path (directory: says where to look first)"
    )


def test_a_module_in_the_directory_above_is_told(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "shop").mkdir()
    (directory / "shop" / "__init__.py").touch()
    monkeypatch.chdir(directory / "shop")
    said = describe(missing("shop"), "app: wsgi:app").reason
    assert said.endswith(f"No module named 'shop'; it is in {directory}, and directory: says where to look first")


def test_a_dot_in_place_of_the_colon_is_told_of_it(directory: Path) -> None:
    said = describe(missing("stat.app"), "app: stat.app").reason
    assert said.endswith("No module named 'stat.app'; for what is named app in it, write stat:app")
    assert describe(missing("stat.app"), "app: stat.app:main").reason.endswith("No module named 'stat.app'")


def test_a_name_that_begins_like_that_of_the_application_is_another(directory: Path) -> None:
    assert "does not have it" in describe(missing("flask"), "app: flask_shop:app").reason


def test_nothing_is_added_for_a_part_of_a_package_that_was_found(directory: Path) -> None:
    assert describe(missing("shop.models"), "app: shop.wsgi:app").reason.endswith("No module named 'shop.models'")


def test_what_is_said_fits_a_message() -> None:
    for found in (
        describe(ValueError("\0é" * 100_000), "app: a:b"),
        describe_text("\0é\n" * 100_000, "lifespan.startup"),
    ):
        assert encode(BootFailed(found.reason, found.traceback, found.permanent))


def test_a_module_of_the_application_stands_in_for_none_of_ours(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is imported to explain an error was imported before the application's directory came first."""
    for name in ("email", "csv", "difflib", "zipfile"):
        (directory / f"{name}.py").write_text("raise SystemExit('imported')\n")
    program = (
        "import sys, os; from clusterd.app.errors import describe; sys.path.insert(0, os.getcwd()); "
        "print(describe(ModuleNotFoundError(\"No module named 'flask'\", name='flask'), 'app: shop:app').reason); "
        "print(describe(AttributeError('x', name='flags', obj=sys), 'app: shop:app').reason)"
    )
    monkeypatch.setenv("PYTHONPATH", str(Path(clusterd.__file__).parents[1]))
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 2

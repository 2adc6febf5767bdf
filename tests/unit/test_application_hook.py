"""What is done after an import."""

import importlib
import importlib.util
import inspect
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from clusterd.metrics.application.hook import after_import

pytestmark = pytest.mark.engine_independent


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a package with the modules one and two, where two imports one."""
    name = f"package_of_{tmp_path.name.replace('-', '_')}"
    directory = tmp_path / name
    directory.mkdir()
    (directory / "__init__.py").write_text("")
    (directory / "one.py").write_text("VALUE = 1\n")
    (directory / "two.py").write_text("from . import one\nVALUE = one.VALUE\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "meta_path", sys.meta_path.copy())
    yield name
    for each in [each for each in sys.modules if each.partition(".")[0] == name]:
        del sys.modules[each]


def double(module: ModuleType) -> None:
    module.VALUE *= 2  # type: ignore[attr-defined]


def test_a_module_is_changed_before_its_importer_sees_it(package: str) -> None:
    after_import({f"{package}.one": double})
    assert package not in sys.modules
    assert importlib.import_module(f"{package}.two").VALUE == 2


def test_a_module_that_is_imported_already_is_changed_at_once(package: str) -> None:
    one = importlib.import_module(f"{package}.one")
    after_import({f"{package}.one": double})
    assert one.VALUE == 2


def test_the_module_has_its_own_loader(package: str) -> None:
    after_import({f"{package}.one": double})
    one = importlib.import_module(f"{package}.one")
    other = importlib.import_module(f"{package}.two")
    assert one.__spec__ is not None
    assert type(one.__loader__) is type(one.__spec__.loader) is type(other.__loader__)
    assert inspect.getsource(one) == "VALUE = 1\n"


def test_what_is_not_there_is_not_there(package: str) -> None:
    after_import({f"{package}.three": double})
    assert importlib.util.find_spec(f"{package}.three") is None
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"{package}.three")


@pytest.mark.parametrize("is_imported", [False, True])
def test_a_module_that_is_imported_again_is_changed_again(package: str, *, is_imported: bool) -> None:
    if is_imported:
        importlib.import_module(f"{package}.one")
    after_import({f"{package}.one": double})
    one = importlib.import_module(f"{package}.one")
    assert importlib.reload(one).VALUE == 2
    assert inspect.getsource(one) == "VALUE = 1\n"


def test_a_module_that_is_only_looked_for_can_be_read(package: str) -> None:
    after_import({f"{package}.one": double})
    spec = importlib.util.find_spec(f"{package}.one")
    assert spec is not None
    assert spec.loader is not None
    assert spec.loader.get_source(f"{package}.one") == "VALUE = 1\n"  # type: ignore[attr-defined]
    assert runpy.run_module(f"{package}.one")["VALUE"] == 1

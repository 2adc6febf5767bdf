"""What is compiled (setup.py) runs as it does interpreted; what mypyc translates wrongly is not written."""

import ast
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from clusterd.http import compilation

_REPOSITORY = Path(__file__).parents[2]
_ENGINE = os.environ.get("CLUSTERD_ENGINE", "interpreted")
"""What the tests are run with: `make test-compiled` says compiled."""


_BASES = {"Enum", "NamedTuple", "Protocol", "Exception", "ValueError", "dict", "Generic"}
"""Of those that are not compiled themselves: mypyc makes these no structures, or knows how they are laid out."""


def compiled_modules() -> list[str]:
    before = Path.cwd()
    os.chdir(_REPOSITORY)
    try:
        modules: list[str] = runpy.run_path("setup.py", run_name="asked")["compiled_modules"]()
    finally:
        os.chdir(before)
    return modules


def test_these_tests_run_what_they_are_said_to(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "clusterd.cli.clusterd", "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert compilation.describe() == _ENGINE
    assert f"(the engine runs {_ENGINE} under Python" in said


def test_an_engine_compiled_for_another_python_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "__file__", str(tmp_path / "clusterd/http/compilation.py"))
    assert compilation.mismatch() == ""
    (tmp_path / "clusterd__mypyc.cpython-399-x86_64-linux-gnu.so").touch()
    expected = (
        "" if compilation.is_compiled() else f"it was compiled for cpython-399-x86_64-linux-gnu, and this is {_tag()}"
    )
    assert compilation.mismatch() == expected


def _is_call(node: ast.AST) -> bool:
    # Of len() nobody minds a second.
    return isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id == "len")


def _tag() -> str:
    tag = sys.implementation.cache_tag
    assert tag is not None
    return tag


def test_no_class_inherits_what_is_laid_out_by_python() -> None:
    """A subclass of threading.Thread compiled, and overwrote the list of weak references to it: a crash much later."""
    trees = [ast.parse((_REPOSITORY / module).read_text(encoding="utf-8")) for module in compiled_modules()]
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    known = _BASES | {each.name for each in classes}
    bases = {ast.unparse(base).partition("[")[0]: each.name for each in classes for base in each.bases}
    assert {base: name for base, name in bases.items() if base not in known} == {}


@pytest.mark.parametrize("module", compiled_modules())
def test_no_slice_calls_anything(module: str) -> None:
    """mypyc 2.4.1 evaluates the bounds of a memoryview's slice twice: everything over TLS was sent twice."""
    tree = ast.parse((_REPOSITORY / module).read_text(encoding="utf-8"))
    calls = [
        node.lineno for node in ast.walk(tree) if isinstance(node, ast.Slice) and any(map(_is_call, ast.walk(node)))
    ]
    assert calls == [], "calculate the bound before, and slice by its name"

"""What is compiled (setup.py) runs as it does interpreted; what mypyc translates wrongly is not written."""

import ast
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clusterd.http import compilation

_REPOSITORY = Path(__file__).parents[2]
_ENGINE = os.environ.get("CLUSTERD_ENGINE", "interpreted")
"""What the tests are run with: `make test-compiled` says compiled."""


_BASES = {"Enum", "NamedTuple", "Protocol", "Exception", "ValueError", "dict", "Generic"}
"""Of those that are not compiled themselves: mypyc makes these no structures, or knows how they are laid out."""


def _asked(function: str, *arguments: Any, **options: Any) -> Any:
    """What a function of setup.py returns. It is called where pip runs it."""
    before = Path.cwd()
    os.chdir(_REPOSITORY)
    try:
        return runpy.run_path("setup.py", run_name="asked")[function](*arguments, **options)
    finally:
        os.chdir(before)


def compiled_modules() -> list[str]:
    modules: list[str] = _asked("compiled_modules")
    return modules


@pytest.mark.parametrize(
    ("demand", "lack", "is_editable", "why"),
    [
        ("", "", False, ""),
        ("", "no C compiler", False, "no C compiler"),
        ("", "", True, "an editable installation is not compiled"),
        ("0", "", False, "it was installed with CLUSTERD_COMPILE=0"),
        ("0", "no C compiler", False, "it was installed with CLUSTERD_COMPILE=0"),
        ("1", "", False, ""),
        ("1", "", True, ""),
    ],
)
def test_the_engine_is_compiled_where_it_can_be_unless_told_otherwise(
    demand: str, lack: str, is_editable: bool, why: str
) -> None:
    assert _asked("why_interpreted", demand, lack, is_editable=is_editable) == why


@pytest.mark.parametrize(("demand", "lack"), [("1", "no C compiler"), ("yes", "")])
def test_what_cannot_be_done_as_demanded_ends_the_build(demand: str, lack: str) -> None:
    with pytest.raises(SystemExit, match=f"CLUSTERD_COMPILE={demand}"):
        _asked("why_interpreted", demand, lack, is_editable=False)


@pytest.mark.parametrize(
    ("own", "there_are", "found", "chosen"),
    [
        ("gcc -pthread", ["gcc", "cc"], "gcc", None),
        ("clang -pthread", ["gcc", "cc"], "cc", "cc"),  # of a Python that was built elsewhere
        ("gcc -pthread", ["clang"], "clang", "clang"),
        ("gcc -pthread", [], None, None),
    ],
)
def test_a_c_compiler_is_found_whatever_python_was_built_with(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    own: str,
    there_are: list[str],
    found: str | None,
    chosen: str | None,
) -> None:
    for name in there_are:
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    # Set first, so that it is put back afterwards: it is chosen by the environment.
    monkeypatch.setenv("CC", "")
    monkeypatch.delenv("CC")
    monkeypatch.setattr("sysconfig.get_config_var", {"CC": own}.get)
    assert _asked("find_compiler") == (found and str(tmp_path / found))
    assert os.environ.get("CC") == chosen


def test_a_compiler_without_the_headers_of_python_compiles_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cc").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", "cc")
    monkeypatch.setattr("sysconfig.get_path", {"include": str(tmp_path)}.get)
    assert _asked("find_lack") == "Python.h was not found when it was installed"
    (tmp_path / "Python.h").touch()
    assert _asked("find_lack") == ""
    (tmp_path / "cc").unlink()
    assert _asked("find_lack") == "no C compiler was found when it was installed"


def test_a_compiler_that_is_named_and_not_there_is_replaced_by_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "gcc").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", "icc -O2")
    assert _asked("find_compiler") is None


@pytest.mark.parametrize("module", ["clusterd", "clusterd.cli.clusterd"])
def test_these_tests_run_what_they_are_said_to(tmp_path: Path, module: str) -> None:
    command = [sys.executable, "-m", module, "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert compilation.describe() == _ENGINE
    assert bool(compilation.why_interpreted()) == (_ENGINE == "interpreted")
    assert f"(the engine runs {_ENGINE} under Python" in said


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where an interpreted installation is."""
    (tmp_path / "clusterd/http").mkdir(parents=True)
    monkeypatch.setattr(compilation, "__file__", str(tmp_path / "clusterd/http/compilation.py"))
    monkeypatch.setattr(compilation, "is_compiled", lambda: False)
    return tmp_path


def test_an_engine_compiled_for_another_python_is_told_of(installed: Path) -> None:
    (installed / "clusterd__mypyc.cpython-399-x86_64-linux-gnu.so").touch()
    why = f"it was compiled for cpython-399-x86_64-linux-gnu, and this is {sys.implementation.cache_tag}"
    assert compilation.why_interpreted() == why


def test_an_installation_says_why_it_is_not_compiled(installed: Path) -> None:
    assert compilation.why_interpreted() == "a checkout is not compiled"
    (installed / compilation.REASON).write_text("no C compiler\n")
    assert compilation.why_interpreted() == "no C compiler"


def test_an_interpreted_engine_says_what_it_costs_and_why() -> None:
    python = sys.version.split()[0]
    assert compilation.outcome("") == f"compiled under Python {python}"
    assert compilation.outcome("so") == f"interpreted under Python {python}, at {compilation.COST}: so"


def _is_call(node: ast.AST) -> bool:
    # Of len() nobody minds a second.
    return isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id == "len")


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

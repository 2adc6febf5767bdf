"""Imports go downward only, and what runs in the application's interpreter needs the standard library and uvloop."""

import ast
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

import clusterd

pytestmark = pytest.mark.engine_independent

PACKAGE = Path(clusterd.__file__).parent

TOP = ""
"""`clusterd` itself, where programs come in: what it imports for them, it imports when it is asked for."""
LAYERS = {
    "__main__": 7,
    TOP: 7,
    "cli": 6,
    "cluster": 6,
    "instances": 6,
    "master": 5,
    "template": 5,
    "hooks": 5,
    "worker": 4,
    "app": 3,
    "dashboard": 3,
    "process": 2,
    "supervisor": 2,
    "http": 2,
    "metrics": 2,
    "systemd": 2,
    "config": 1,
    "wire": 1,
    "log": 1,
    "linux": 0,
    "profiles": 0,
    "runtime": 0,
    "version": 0,
    "http_date": -1,
    "records": -1,
    "service_name": -1,
}
HTTP_LAYERS = {
    "engine": 6,
    "asgi": 5,
    "wsgi": 5,
    "connections": 4,
    "access": 3,
    "origins": 2,
    "call": 2,
    "messages": 1,
    "compilation": 0,
    "forks": 0,
    "hidden_loop": 0,
    "settings": 0,
    "in_hand": 0,
    "connection_source": 0,
    "ports": 0,
}
"""Within http/: its packages, and the modules that are in none."""
IMPURE = {"os", "signal", "socket", "time", "asyncio", "logging", "threading", "subprocess", "select", "random"}
PURE = (
    "clusterd.supervisor",
    "clusterd.dashboard.history",
    "clusterd.dashboard.model",
    "clusterd.dashboard.words",
    "clusterd.master.hooks.decisions",
    "clusterd.master.watching.file_changes",
)
MOST_ARGUMENTS = 7
CIRCLES: set[frozenset[str]] = {frozenset({"clusterd.http.call", "clusterd.http.connections.connection"})}
"""By name, and for types only: a connection and the adapter that answers its requests know each other."""
MOST_MODULES = 13
"""In one folder: more names than that cannot be read at a glance."""
IN_THE_APPLICATIONS_INTERPRETER = (
    "clusterd.template.process",
    "clusterd.worker.boot",
    "clusterd.http.engine",
    "clusterd.cluster.cluster",
    "clusterd.hooks.process",
)
LAZY = {
    # What only the program that is its own master does.
    "clusterd.cluster.primary",
    "clusterd.master.context",
    "clusterd.master.master",
    "clusterd.master.operations",
    "clusterd.master.sockets.binding",
    "clusterd.master.sockets.listeners",
    "clusterd.config.reading.loader",
    "clusterd.config.paths",
    "clusterd.systemd.sockets",
}


@cache
def modules() -> tuple[str, ...]:
    named = (
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in PACKAGE.rglob("*.py")
    )
    return tuple(sorted(named))


def path_of(module: str) -> Path:
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def imports(module: str) -> tuple[str, ...]:
    """The modules that `module` imports, wherever in its text. What is written in C imports none of ours."""
    if f"{module.rpartition('.')[2]}.c" in {path.name for path in path_of(module).parent.glob("*.c")}:
        return ()
    return tuple(imported_by(ast.walk(ast.parse(path_of(module).read_text()))))


@cache
def imports_at_once(module: str) -> set[str]:
    """The modules that importing `module` imports: what stands in no function and not below `if TYPE_CHECKING`."""
    return set(imported_by(ast.parse(path_of(module).read_text()).body))


def imported_by(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in modules() else node.module for name in names)


def package_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


@pytest.mark.parametrize("module", modules())
def test_imports_go_downward(module: str) -> None:
    own = package_of(module)
    for imported in imports(module):
        if not imported.startswith("clusterd."):
            continue
        other = package_of(imported)
        if other != own:
            assert LAYERS[other] < LAYERS[own], f"{module} imports {imported}"


def test_every_package_has_a_layer() -> None:
    assert {package_of(module) for module in modules()} == set(LAYERS)


def test_what_decides_is_pure() -> None:
    for module in modules():
        if module.startswith(PURE):
            assert not IMPURE & {name.split(".")[0] for name in imports(module)}, module


def http_part_of(module: str) -> str:
    return module.split(".")[2]


@pytest.mark.parametrize("module", [each for each in modules() if each.startswith("clusterd.http.")])
def test_imports_within_http_go_downward(module: str) -> None:
    own = http_part_of(module)
    for imported in imports_at_once(module):
        if imported.startswith("clusterd.http."):
            other = http_part_of(imported)
            assert other == own or HTTP_LAYERS[other] < HTTP_LAYERS[own], f"{module} imports {imported}"


@pytest.mark.parametrize(
    ("own", "others"),
    [
        ("worker", {"master", "supervisor"}),
        ("http", {"master", "supervisor"}),
        ("hooks", {"master", "supervisor", "worker", "http", "cluster"}),
        ("master", {"worker", "http", "template", "hooks", "app"}),
        ("supervisor", {"wire"}),
    ],
)
def test_a_process_does_not_contain_what_belongs_to_another(own: str, others: set[str]) -> None:
    for module in modules():
        if package_of(module) == own:
            assert not {package_of(name) for name in imports(module)} & others, module


def test_no_folder_is_too_full_to_be_read_at_a_glance() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    full = {str(folder.relative_to(PACKAGE)) for folder in folders if len(list(folder.glob("*.py"))) > MOST_MODULES}
    assert not full


def reached_from(module: str) -> set[str]:
    """The modules that `module` imports, and those that they import, for types only or not."""
    found: set[str] = set()
    waiting = list(imports(module))
    while waiting:
        each = waiting.pop()
        if each in modules() and each not in found:
            found.add(each)
            waiting += imports(each)
    return found


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    reached = {module: reached_from(module) for module in modules()}
    circles = {
        frozenset({module} | {each for each in reached[module] if module in reached[each]})
        for module in modules()
        if module in reached[module]
    }
    assert circles == CIRCLES


def test_no_constructor_takes_more_than_can_be_remembered() -> None:
    longest: dict[str, int] = {}
    for module in modules():
        for node in ast.walk(ast.parse(path_of(module).read_text())):
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                arguments = len(node.args.args) - 1 + len(node.args.kwonlyargs)
                longest[module] = max(arguments, longest.get(module, 0))
    assert {module for module, arguments in longest.items() if arguments > MOST_ARGUMENTS} == set()


@pytest.mark.parametrize("module", IN_THE_APPLICATIONS_INTERPRETER)
def test_what_runs_beside_the_application_needs_only_uvloop(module: str) -> None:
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        each = waiting.pop()
        if each in seen:
            continue
        seen.add(each)
        for imported in imports(each):
            if imported in LAZY:
                assert imported not in imports_at_once(each)
                continue
            top = imported.split(".")[0]
            if top == "clusterd":
                # Importing a module runs the __init__ of every package above it.
                parts = imported.split(".")
                waiting += [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
            else:
                assert top in sys.stdlib_module_names or top == "uvloop", f"{each} imports {imported}"

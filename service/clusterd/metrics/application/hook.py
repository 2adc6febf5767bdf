"""Has something done right after a module was imported, by whomever and whenever. Imports nothing by itself."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

AfterImport = Callable[[Any], None]


class _Loader(Loader):
    """Loads a module as its own loader does, and calls `then` with it."""

    def __init__(self, loader: Any, then: AfterImport) -> None:
        self._loader = loader
        self._then = then

    def __getattr__(self, name: str) -> Any:
        """Return what else the module's own loader can do, for those who look for a module and do not import it."""
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return what the module's own loader makes for it."""
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """Run the module. It never finds out that it had another loader for a moment."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._then(module)


class Finder(MetaPathFinder):
    """Stands before the other finders, and finds what they find."""

    def __init__(self, then: Mapping[str, AfterImport]) -> None:
        self._then = then

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find a module that is to be watched. None for all others, which the other finders then find."""
        then = self._then.get(name)
        if then is None:
            return None
        for finder in sys.meta_path:
            if finder is not self and (find := getattr(finder, "find_spec", None)) is not None:
                spec: ModuleSpec | None = find(name, path, target)
                if spec is not None:
                    if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                        spec.loader = _Loader(spec.loader, then)
                    return spec
        return None


def after_import(then: Mapping[str, AfterImport]) -> None:
    """Call each function with the module of this name whenever it is imported; at once if it is already."""
    for name, call in then.items():
        if (module := sys.modules.get(name)) is not None:
            call(module)
    sys.meta_path.insert(0, Finder(then))

"""Tells whether the engine runs compiled (setup.py), or interpreted because no build for this Python exists."""

import sys
from importlib.util import find_spec
from pathlib import Path

_EXTENSION = "clusterd__mypyc.*.so"
"""The library that contains all compiled modules. It lies beside the package."""


def is_compiled() -> bool:
    """Whether this interpreter runs the compiled engine."""
    spec = find_spec("clusterd.http.engine")
    return spec is not None and spec.origin is not None and not spec.origin.endswith(".py")


def describe() -> str:
    """Return "compiled" or "interpreted"."""
    return "compiled" if is_compiled() else "interpreted"


def mismatch() -> str:
    """Why the engine runs interpreted although a compiled build is installed; empty if that is not the case."""
    root = Path(__file__).parents[2]
    compiled = sorted(path.name.split(".")[1] for path in root.glob(_EXTENSION))
    if not compiled or is_compiled():
        return ""
    return f"it was compiled for {', '.join(compiled)}, and this is {sys.implementation.cache_tag}"

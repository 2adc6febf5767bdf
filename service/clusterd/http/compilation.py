"""How the engine runs: compiled (setup.py), or interpreted where nobody has compiled it for this Python."""

import sys
from importlib.util import find_spec
from pathlib import Path

_EXTENSION = "clusterd__mypyc.*.so"
"""The one library that all compiled modules are in, beside the package."""


def is_compiled() -> bool:
    """Whether this interpreter runs the engine compiled."""
    spec = find_spec("clusterd.http.engine")
    return spec is not None and spec.origin is not None and not spec.origin.endswith(".py")


def describe() -> str:
    """The same in a word."""
    return "compiled" if is_compiled() else "interpreted"


def mismatch() -> str:
    """Why an engine that is there compiled runs interpreted all the same; empty where it does not."""
    root = Path(__file__).parents[2]
    compiled = sorted(path.name.split(".")[1] for path in root.glob(_EXTENSION))
    if not compiled or is_compiled():
        return ""
    return f"it was compiled for {', '.join(compiled)}, and this is {sys.implementation.cache_tag}"

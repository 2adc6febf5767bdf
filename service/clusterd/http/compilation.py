"""Tells whether the engine runs compiled (setup.py) or interpreted, why, and what that costs.

setup.py runs this file by its path, to say the same at the end of a build.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

COST = "about half the requests a second"
"""What an interpreted engine answers, measured against a compiled one (docs/decisions/0009)."""

REASON = "clusterd/http/interpreted.txt"
"""Where an installation that is not compiled has the reason."""

_EXTENSION = "clusterd__mypyc.*.so"
"""The library that contains all compiled modules. It lies beside the package."""


def is_compiled() -> bool:
    """Whether this interpreter runs the compiled engine."""
    spec = find_spec("clusterd.http.engine")
    return spec is not None and spec.origin is not None and not spec.origin.endswith(".py")


def describe() -> str:
    """Return "compiled" or "interpreted"."""
    return "compiled" if is_compiled() else "interpreted"


def why_interpreted() -> str:
    """Why this interpreter runs the engine interpreted; empty if it runs it compiled."""
    if is_compiled():
        return ""
    root = Path(__file__).parents[2]
    compiled = sorted(path.name.split(".")[1] for path in root.glob(_EXTENSION))
    if compiled:
        return f"it was compiled for {', '.join(compiled)}, and this is {sys.implementation.cache_tag}"
    try:
        return (root / REASON).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return "a checkout is not compiled"


def outcome(why: str) -> str:
    """Say how the engine runs under this Python, and what it costs if it is interpreted for the reason `why`."""
    python = f"under Python {sys.version.split()[0]}"
    return f"interpreted {python}, at {COST}: {why}" if why else f"compiled {python}"


def version_line() -> str:
    """Return what `clusterd --version` prints: the version, and how the engine runs."""
    from clusterd.version import __version__  # setup.py runs this file where there is no package yet.

    return f"clusterd {__version__} (the engine runs {outcome(why_interpreted())})"

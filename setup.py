"""Compiles the engine, where asked to; everything else about the package is in setup.cfg.

    CLUSTERD_COMPILE=1 python3 setup.py build

The modules below are what runs for each request and each connection. mypyc translates them to C as they are: the same
files run interpreted wherever they were not compiled (a checkout, an application's own Python of another version).
"""

import os
from glob import glob

from setuptools import Extension, setup

COMPILED = (
    "service/clusterd/http/**/*.py",
    "service/clusterd/config/limits.py",
    "service/clusterd/metrics/counting.py",
    "service/clusterd/wire/connection_state.py",
    "service/clusterd/worker/accepting/acceptor.py",
    "service/clusterd/worker/accepting/accept_policy.py",
    "service/clusterd/worker/accepting/exclusive_listeners.py",
)
INTERPRETED = {
    "service/clusterd/http/compilation.py",  # tells the one from the other
    "service/clusterd/http/asgi/application.py",  # an exception, whose base is none of mypyc's
    "service/clusterd/http/hidden_loop.py",  # a generator that is a coroutine, which mypyc does not know
    "service/clusterd/http/asgi/websocket/wire.py",  # its base class is another package's, which need not be there
}


def compiled_modules() -> list[str]:
    """The files to compile."""
    found = {path for pattern in COMPILED for path in glob(pattern, recursive=True)}
    return sorted(path for path in found - INTERPRETED if not path.endswith("__init__.py"))


def extensions() -> list[Extension]:
    """What is to be built for them."""
    if os.environ.get("CLUSTERD_COMPILE") != "1":
        return []
    from mypyc.build import mypycify

    # Silent about what the engine only imports: that is `make lint`'s, which has the packages it needs.
    return mypycify(["--config-file=setup.cfg", "--follow-imports=silent", *compiled_modules()], group_name="clusterd")


if __name__ == "__main__":
    setup(ext_modules=extensions())

"""The package `clusterd` for processes that `multiprocessing` starts with `spawn` or `forkserver`.

Such a process imports the application anew, and the application may import `clusterd.worker`. The package need not be
installed where the application's interpreter looks. This directory is the last one on sys.path, which `multiprocessing`
hands to its children; imported from it, this module puts the package in its own place.
"""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_spec = spec_from_file_location("clusterd_bootstrap", Path(__file__).resolve().parents[1] / "bootstrap.py")
if _spec is None or _spec.loader is None:
    raise ImportError("the bootstrap of clusterd is missing")
_bootstrap = module_from_spec(_spec)
_spec.loader.exec_module(_bootstrap)
_bootstrap.load_package()

"""`clusterd --version` is quick: it imports nothing of what serves."""

import subprocess
import sys

import pytest

from clusterd.version import __version__

pytestmark = pytest.mark.engine_independent

_PROGRAM = """
import sys
from clusterd.cli.clusterd import main
sys.argv[1:] = ["--version"]
main()
print(*(name for name in sys.modules if name.startswith("clusterd.")))
"""


def test_it_imports_little() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    version, imported = done.stdout.splitlines()
    assert version.startswith(f"clusterd {__version__} (the engine runs ")
    assert len(imported.split()) < 10, imported

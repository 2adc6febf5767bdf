"""A clusterd that is installed for one test, and can be replaced by another version."""

import re
import shutil
from pathlib import Path

import clusterd


class Installed:
    """The package in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.package = directory / "installed" / "clusterd"
        source = Path(clusterd.__file__).parent
        shutil.copytree(source, self.package, ignore=shutil.ignore_patterns("__pycache__"))
        for library in source.parent.glob("clusterd__mypyc*.so"):  # of a compiled engine
            shutil.copy(library, self.package.parent)

    @property
    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.package.parent)}

    def change(self, module: str, pattern: str, by: str) -> None:
        """Put another text on disk in a file of the package."""
        path = self.package / module
        changed, count = re.subn(pattern, by, path.read_text(), count=1, flags=re.M)
        assert count, (module, pattern)
        path.write_text(changed)

    def become(self, version: str) -> None:
        """Install another version."""
        self.change("version.py", r'"[^"]+"$', f'"{version}"')

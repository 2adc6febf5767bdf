"""The collection as a file tree: what ansible-lint says of it."""

import re
import shutil
import subprocess
from pathlib import Path

from tests.support.neighbours import ENVIRONMENT, needs

_COLLECTION = Path(__file__).parents[2] / "packaging/ansible"


def test_ansible_lint_finds_nothing(tmp_path: Path) -> None:
    needs("ansible-lint", "ansible-lint")
    # It writes beside what it reads, and looks for a repository around it.
    collection = tmp_path / "collection"
    shutil.copytree(_COLLECTION, collection)
    command = ["ansible-lint", "--offline", "--nocolor", "--profile", "production", "--strict"]
    environment = {**ENVIRONMENT, "HOME": str(tmp_path)}
    found = subprocess.run(command, cwd=collection, capture_output=True, text=True, check=False, env=environment)
    assert found.returncode == 0, found.stdout + found.stderr
    (files,) = re.findall(r"0 failure\(s\), 0 warning\(s\) (?:on|in) (\d+) files", found.stdout + found.stderr)
    assert int(files) > 15

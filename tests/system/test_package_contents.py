"""The package as a file: its version, what lintian says of it, and that what it names is in it."""

import ast
import gzip
import itertools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.machines.machine import Machine
from tests.support.machines.packages import field, paths, suffix, unpacked
from tests.support.neighbours import needs

_PATH = re.compile(r"(?<![\w.*/])/(?:usr|etc|var|lib|srv)/[\w./@-]*[\w]")
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")

NOT_SHIPPED = {"../bench/README.md", "docs/man/clusterd.8", "CONTRIBUTING.md", "LICENSE"}
"""What is for contributors, and what the package has under another name: manual pages and `copyright`."""
MADE_LATER = {"/etc/clusterd/NAME.yaml", "/etc/clusterd/blog.yaml", "/var/lib/clusterd", "/var/lib/clusterd-NAME"}
"""Paths of files that operators write and directories that systemd makes."""
OF_SYSTEMD = {"/usr/bin/systemctl", "/var/tmp"}
OF_OPERATORS = re.compile(r"/srv/|/etc/(?:systemd|prometheus|nginx|ssl|letsencrypt)/|/usr/bin/python|/var/lib/python")


def test_the_version_says_for_which_debian_it_was_built(bare_machine: Machine, package: Path) -> None:
    version = field(package, "Version")
    upstream, _, _ = version.partition("~")
    assert version == upstream + suffix(bare_machine)
    assert package.name == f"clusterd_{version}_{field(package, 'Architecture')}.deb"


def test_versions_sort_as_upgrades_go() -> None:
    order = ["0.0.9", "0.1.0~deb12", "0.1.0~deb13", "0.1.0", "0.1.1~deb12"]
    for lower, higher in itertools.pairwise(order):
        subprocess.run(["dpkg", "--compare-versions", lower, "lt", higher], check=True)


def test_lintian_finds_nothing_that_has_no_written_reason(package: Path) -> None:
    needs("lintian", "lintian")
    strict = ("--pedantic", "--display-info", "--fail-on=error,warning,info,pedantic")
    command = ["lintian", "--no-cfg", "--allow-root", *strict, str(package)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "hardening-no-bindnow" not in found.stdout


def test_every_file_that_a_manual_page_names_is_there(package: Path, tmp_path: Path) -> None:
    there = paths(package)
    root = unpacked(package, tmp_path / "files")
    pages = sorted((root / "usr/share/man").rglob("*.gz"))
    assert len(pages) == 3
    for page in pages:
        text = gzip.decompress(page.read_bytes()).decode().replace("\\-", "-").replace("\\&", "")
        assert not re.search(r"(?<![\w/])docs/\w", text), f"{page.name} names a file of the source tree"
        assert _missing(text, there) == set(), page.name


def test_every_file_that_the_program_names_is_there(package: Path, tmp_path: Path) -> None:
    there = paths(package)
    root = unpacked(package, tmp_path / "files")
    for module in (root / "usr/lib/clusterd/clusterd").rglob("*.py"):
        for text in _texts(module):
            assert _missing(text, there) == set(), module
            for name in re.findall(r"(?<![\w/])docs/[\w-]+\.md", text):
                assert f"/usr/share/doc/clusterd/{name}" in there, module


def test_every_link_in_the_documentation_leads_somewhere(package: Path, tmp_path: Path) -> None:
    root = unpacked(package, tmp_path / "files")
    pages = [*(root / "usr/share/doc/clusterd").rglob("*.md"), *(root / "usr/share/clusterd/examples").rglob("*.md")]
    assert len(pages) > 15
    for page in pages:
        for target in _LINK.findall(page.read_text()):
            assert target in NOT_SHIPPED or (page.parent / target).exists(), f"{page}: {target}"


def test_units_name_documentation_that_is_there(package: Path, tmp_path: Path) -> None:
    there = paths(package)
    root = unpacked(package, tmp_path / "files")
    for unit in (*root.rglob("*.service"), *root.rglob("*.socket"), *root.rglob("*.path")):
        for path in re.findall(r"file:(/\S+)", unit.read_text()):
            assert path in there, unit.name


def _missing(text: str, there: set[str]) -> set[str]:
    named = {path.rstrip(".") for path in _PATH.findall(text)}
    return {path for path in named - there - MADE_LATER - OF_SYSTEMD if not OF_OPERATORS.match(path)}


def _texts(module: Path) -> Iterator[str]:
    """The strings of a module, not its docstrings, which are for contributors."""
    tree = ast.parse(module.read_text())
    about = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in about:
            yield node.value

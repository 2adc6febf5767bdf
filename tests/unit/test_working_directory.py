"""The working directory goes by the name by which it was entered, as long as it was entered by one."""

from pathlib import Path

import pytest

from clusterd.config.reading.working_directory import absolute, entered_as


@pytest.fixture
def link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, by a link to it."""
    (tmp_path / "releases/1").mkdir(parents=True)
    link = tmp_path / "current"
    link.symlink_to("releases/1")
    monkeypatch.chdir(link)
    return link


def test_a_link_is_a_name(link: Path) -> None:
    assert entered_as({"PWD": str(link)}) == str(link)
    assert entered_as({"PWD": str(link.resolve())}) == str(link.resolve())


@pytest.mark.parametrize("name", ["/", ".", "", "/nothing", "{link}/", "{link}/.", "{link}/../1"])
def test_whatever_else_is_in_the_variable_is_none(link: Path, name: str) -> None:
    assert entered_as({"PWD": name.format(link=link)}) is None
    assert entered_as({}) is None


def test_the_way_up_is_the_kernels(link: Path) -> None:
    here = link.resolve()
    assert absolute("a/./b") == f"{here}/a/b"
    assert absolute(Path()) == str(here)
    assert absolute("../a") == str(here.parent / "a")
    assert absolute("/a/b") == "/a/b"

"""The digest of a release: equal where the source is, whatever else lies around."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from clusterd.master.observing import releases
from clusterd.master.observing.releases import release_of


def deployed(directory: Path, **sources: str) -> Path:
    """A release with these files; `__` in a name stands for a slash."""
    for name, source in sources.items():
        path = directory / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return directory


def test_equal_sources_have_one_digest_and_each_its_own_name(tmp_path: Path) -> None:
    one = deployed(tmp_path / "one", app="x = 1", shop__models="y = 2")
    two = deployed(tmp_path / "two", shop__models="y = 2", app="x = 1")
    (two / "__pycache__").mkdir()
    (two / "__pycache__" / "app.py").write_text("compiled")
    deployed(two / ".git", hook="nothing")
    (deployed(two / "venv", library="z = 3") / "pyvenv.cfg").touch()
    (two / "data.txt").write_text("not source")
    assert release_of(str(one)).digest == release_of(str(two)).digest != ""
    assert [release_of(str(each)).name for each in (one, two)] == ["one", "two"]


@pytest.mark.parametrize("changed", [{"app": "x = 2"}, {"other": "x = 1"}, {"app": "x = 1", "more": ""}])
def test_other_sources_have_another_digest(tmp_path: Path, changed: dict[str, str]) -> None:
    one, two = deployed(tmp_path / "one", app="x = 1"), deployed(tmp_path / "two", **changed)
    assert release_of(str(one)).digest != release_of(str(two)).digest


def test_a_release_is_named_by_what_the_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(deployed(tmp_path / "2026-11-28", app="x = 1"))
    assert release_of(str(tmp_path / "current")).name == "2026-11-28"


def test_what_is_too_much_has_no_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = deployed(tmp_path / "one", app="x = 1", more="y = 2")
    for limit in ("MOST_ENTRIES", "MOST_BYTES"):
        with monkeypatch.context() as patched:
            patched.setattr(releases, limit, 1)
            assert release_of(str(directory)).digest == ""
    with (directory / "large.py").open("wb") as large:
        large.truncate(1 << 40)
    assert release_of(str(directory)).digest == ""


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    plain = deployed(tmp_path / "plain", app="x = 1", pipe="", zero="")
    odd = deployed(tmp_path / "odd", app="x = 1")
    os.mkfifo(odd / "pipe.py")
    (odd / "zero.py").symlink_to("/dev/zero")
    assert release_of(str(odd)).digest == release_of(str(plain)).digest
    (odd / "broken.py").symlink_to(tmp_path / "nowhere")
    assert release_of(str(odd)).digest == ""


def test_what_comes_after_others_are_forgotten_is_kept() -> None:
    loop = asyncio.new_event_loop()
    found = releases.Releases(loop)
    found.learn(1, "/nowhere", lambda _: True)
    found.learn(2, "/nowhere", lambda _: True)
    while len(found.known) < 2:
        loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()
    assert set(found.known) == {1, 2}


def test_where_no_thread_can_be_started_the_release_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    loop = asyncio.new_event_loop()
    found = releases.Releases(loop)
    found.learn(1, "/nowhere", lambda _: True)
    loop.close()
    assert found.known == {}

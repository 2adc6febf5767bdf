"""Started in a directory that a deploy then replaces: each generation goes by the name."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.service import HELLO, Service

pytestmark = pytest.mark.engine_independent


class Entered(Service):
    """Started by a shell that has gone into its directory, without a file."""

    @property
    def arguments(self) -> tuple[str, ...]:
        where = ("--listen", f"127.0.0.1:{self.port}", "--metrics", f"127.0.0.1:{self.metrics_port}")
        quickly = ("--workers", "1", "--rollout.settle", "0ms")
        return ("-m", "clusterd.cli.clusterd", "app:app", *where, *quickly, "--control", str(self.control), *self.flags)


@pytest.fixture
def entered(tmp_path: Path) -> Iterator[Entered]:
    """In the directory `current`, which is made by release()."""
    release(tmp_path, "one")
    (tmp_path / "current").symlink_to("one")
    service = Entered(tmp_path / "current", environment={"PWD": str(tmp_path / "current")})
    service.control = tmp_path / "control.sock"
    try:
        yield service
    finally:
        service.destroy()
        print(service.log())


def release(directory: Path, version: str) -> Path:
    """A directory with an application."""
    made = directory / version
    made.mkdir()
    (made / "app.py").write_text(HELLO.replace("VERSION", version))
    return made


def test_a_link_is_followed_anew_by_each_generation(entered: Entered, tmp_path: Path) -> None:
    entered.application.write_text(HELLO.replace("VERSION", "one"))
    entered.start()
    assert entered.ask().version == "one"
    release(tmp_path, "two")
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").replace(tmp_path / "current")
    assert entered.reload().returncode == 0
    entered.wait_for_line("worker ended: .* generation=1")  # who has it in its queue may still be the old one
    assert entered.ask().version == "two"
    shutil.rmtree(tmp_path / "one")
    assert entered.reload().returncode == 0
    assert entered.stop() == 0


def test_a_directory_that_takes_its_place_is_watched_and_served(entered: Entered, tmp_path: Path) -> None:
    (tmp_path / "current").unlink()
    (tmp_path / "one").rename(tmp_path / "current")
    entered.flags = ("--watch", ".")
    entered.start()
    release(tmp_path, "two")
    (tmp_path / "current").rename(tmp_path / "old")
    (tmp_path / "two").rename(tmp_path / "current")
    entered.wait_for_line("reload succeeded")
    shutil.rmtree(tmp_path / "old")
    before = len(entered.lines)
    (tmp_path / "current/app.py").write_text(HELLO.replace("VERSION", "three"))
    entered.wait_for_line("app.py has changed: reloading", before)
    entered.wait_for_line("worker ended: .* generation=2", before)
    assert entered.ask().version == "three"
    assert entered.stop() == 0

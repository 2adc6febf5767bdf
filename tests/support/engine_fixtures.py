"""Fixtures of the rings that run the engine in their own process."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.disk import WAYS, Disk
from tests.support.stages import only_legal_moves

__all__ = ["disk", "legal_moves", "serve_disk"]


@pytest.fixture(autouse=True)
def legal_moves() -> Iterator[None]:
    """Every connection of the test goes from stage to stage by legal moves."""
    with only_legal_moves():
        yield


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """Files to be sent."""
    return Disk(tmp_path)


@pytest.fixture(params=WAYS)
def serve_disk(request: pytest.FixtureRequest, disk: Disk) -> Callable[..., Any]:
    """Serve the files of `disk`, in each of the ways."""
    return partial(disk.serving, request.param)

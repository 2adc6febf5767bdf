"""What holds for the tests of every ring."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.support.disk import WAYS, Disk

# How long an example takes depends on what else the machine does.
settings.register_profile("clusterd", deadline=None)
settings.load_profile("clusterd")


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    """Where the connections of a test are kept, to be closed when it is over."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """Files to be sent."""
    return Disk(tmp_path)


@pytest.fixture(params=WAYS)
def serve_disk(request: pytest.FixtureRequest, disk: Disk) -> Callable[..., Any]:
    """Serve the files of `disk`, in each of the ways."""
    return partial(disk.serving, request.param)

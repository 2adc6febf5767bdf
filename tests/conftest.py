"""What holds for the tests of every ring."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import settings

# How long an example takes depends on what else the machine does.
settings.register_profile("clusterd", deadline=None)
settings.load_profile("clusterd")


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    """Where the connections of a test are kept, to be closed when it is over."""
    with ExitStack() as stack:
        yield stack

"""What holds for the tests of every ring."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import settings

from clusterd.runtime.threads import CallingThread
from tests.support.serving import PATIENCE

# How long an example takes depends on what else the machine does.
settings.register_profile("clusterd", deadline=None)
settings.load_profile("clusterd")


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Fails a test that leaves a thread for which the interpreter would wait at its end, and pytest with it."""
    before = set(threading.enumerate())
    yield
    after = (each for each in threading.enumerate() if not isinstance(each, CallingThread))
    left = [each for each in after if each not in before and not each.daemon]
    for thread in left:
        thread.join(PATIENCE)
    assert [each.name for each in left if each.is_alive()] == []


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    """Where the connections of a test are kept, to be closed when it is over."""
    with ExitStack() as stack:
        yield stack

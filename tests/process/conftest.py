"""Fixtures of the process ring."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.process.disk import WAYS, Disk
from tests.process.examples import Example, as_an_example
from tests.process.service import Service


@pytest.fixture
def make_service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Make services that are gone when the test is over; their logs are shown when it fails."""
    made: list[Service] = []

    def make(**settings: Any) -> Service:
        directory = tmp_path / f"service{len(made)}"
        directory.mkdir()
        service = Service(directory, settings)
        made.append(service)
        return service

    yield make
    for service in made:
        service.destroy()
        print(f"--- log of {service.directory.name}\n{service.log()}")


@pytest.fixture
def example(make_service: Callable[..., Service]) -> Example:
    """Make the service of an example's own configuration."""
    return lambda path, *flags: as_an_example(make_service(), path, *flags)


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

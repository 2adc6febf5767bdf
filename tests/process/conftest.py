"""Fixtures of the process ring."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.control_groups import group_with_memory, group_with_tasks
from tests.support.endings import NOTE, Noted, Serve
from tests.support.engine_fixtures import *  # noqa: F403 - pytest finds them by their names
from tests.support.examples import Example, as_an_example
from tests.support.managed import ManagedService
from tests.support.service import PATIENCE_SECONDS, Service


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
def make_managed(tmp_path: Path) -> Iterator[Callable[..., ManagedService]]:
    """Make services that a stand-in for systemd runs, with their settings; see `make_service`."""
    made: list[ManagedService] = []

    def make(
        most_stored: int = 1 << 20,
        ending_seconds: float = PATIENCE_SECONDS,
        is_blocking: bool = False,  # it is named
        **settings: Any,
    ) -> ManagedService:
        directory = tmp_path / f"managed{len(made)}"
        directory.mkdir()
        unit: dict[str, Any] = {
            "most_stored": most_stored,
            "ending_seconds": ending_seconds,
            "is_blocking": is_blocking,
        }
        made.append(ManagedService(directory, settings, **unit))
        return made[-1]

    yield make
    for service in made:
        service.destroy()
        print(f"--- log of {service.directory.name}\n{service.log()}")


@pytest.fixture
def little_memory() -> Iterator[Path]:
    """A control group with 192 MiB. Name it before `make_service`, whose services have to end before it does."""
    with group_with_memory(192 << 20) as group:
        yield group


@pytest.fixture
def few_tasks() -> Iterator[Path]:
    """A control group whose limit of tasks a test sets. Name it before `make_service`."""
    with group_with_tasks() as group:
        yield group


@pytest.fixture
def example(make_service: Callable[..., Service]) -> Example:
    """Make the service of an example's own configuration."""
    return lambda path, *flags: as_an_example(make_service(), path, *flags)


@pytest.fixture
def serve(make_service: Callable[..., Service], tmp_path: Path) -> Serve:
    """Serve an application that notes how it ends, in one worker."""

    def start(source: str, **settings: object) -> Noted:
        service = make_service(workers=1, **{"timeouts": {"drain": "20s"}, **settings})
        service.deploy("1", f"NOTES = {str(tmp_path / 'notes')!r}\n{NOTE}{source}")
        service.start()
        return Noted(service, tmp_path / "notes")

    return start

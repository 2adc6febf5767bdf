"""The laboratory, booted once for each Debian. A test may leave another release, and every host serving."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts.ansible import Administrator
from tests.support.hosts.laboratory import Laboratory, laboratory
from tests.support.machines.fixtures import able_machine, package, suite_root

__all__ = ["able_machine", "package", "suite_root"]


@pytest.fixture(scope="session")
def booted_lab(suite_root: tuple[str, Path], package: Path) -> Iterator[Laboratory]:
    """Three hosts that serve release "one", and HAProxy before them."""
    suite, root = suite_root
    with laboratory(suite, root, package) as made:
        made.serve()
        yield made


@pytest.fixture
def lab(booted_lab: Laboratory) -> Laboratory:
    """The laboratory with all hosts serving; which release, the tests before have decided."""
    booted_lab.await_all()
    return booted_lab


@pytest.fixture
def administrator(lab: Laboratory) -> Administrator:
    """Who deploys."""
    return Administrator(lab)

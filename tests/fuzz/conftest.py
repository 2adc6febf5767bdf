"""Fixtures of the fuzz ring."""

from tests.support.engine_fixtures import *  # noqa: F403 - pytest finds them by their names

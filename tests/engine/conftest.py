"""Fixtures of the engine ring."""

from tests.support.engine_fixtures import *  # noqa: F403 - pytest finds them by their names

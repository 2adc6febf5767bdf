"""A configuration in the words of a file, and the differences of two."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.config.changes import changes
from clusterd.config.model import Config
from clusterd.config.reading.loader import load, load_given
from clusterd.config.settings import kinds
from clusterd.config.settings.kinds import Kind
from clusterd.config.settings.schema import BY_KEY
from clusterd.config.settings.setting import Applies
from clusterd.config.written import HIDDEN, nested, shown, written
from tests.support.configurations import everything, write

pytestmark = pytest.mark.engine_independent


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return everything(tmp_path)


def test_it_is_the_words_of_a_file(config: Config) -> None:
    found = written(config)
    assert found["unix_sockets.mode"] == "0660"
    assert found["rollout.boot_timeout"] == "90s"
    assert found["rollout.settle"] == "0s"
    assert found["limits.body"] == "2G"
    assert found["limits.queue"] == 0
    assert found["metrics.address"] == "off"
    assert found["worker_stop"] is None
    assert found["trusted_proxies"] == ["10.0.0.0/8", "::1", "unix"]


def test_what_is_written_is_read_as_the_same(config: Config, tmp_path: Path) -> None:
    runs = load(write(tmp_path, "run: shop.jobs:main"))
    bare = load(write(tmp_path, "app: a:b"))
    for each in (config, runs, bare):
        assert load_given(nested(written(each)), "here") == each


@given(st.integers(1, 24 * 60 * 60 * 1000))
def test_a_duration_is_read_as_it_was_written(milliseconds: int) -> None:
    assert_kept(kinds.duration("1ms", "24h"), milliseconds / 1000)


@given(st.decimals("0.001", "99999", places=6))
def test_so_is_a_fraction_of_a_millisecond(seconds: Any) -> None:
    assert_kept(kinds.duration("1ms", "99h"), float(seconds))


@given(st.integers(0, 1 << 45))
def test_a_size_is_read_as_it_was_written(count: int) -> None:
    assert_kept(kinds.size("0", "99T"), count)


def assert_kept(kind: Kind, value: object) -> None:
    assert kind.read(str(kind.write(value)), "/") == value


def test_operators_are_shown_no_secrets(config: Config) -> None:
    names = dict(config.environment)
    assert nested(shown(written(config)))["environment"] == dict.fromkeys(names, HIDDEN)
    other = dataclasses.replace(config, environment={**names, "MODE": "secret", "NEW": "secret"})
    (change,) = changes(written(config), written(other))
    rows = list(change.shown())
    assert [(row["key"], row["before"], row["after"]) for row in rows] == [
        ("environment.MODE", HIDDEN, HIDDEN),
        ("environment.NEW", None, HIDDEN),
    ]


def test_nothing_changes_from_a_configuration_to_itself(config: Config) -> None:
    assert changes(written(config), written(config)) == ()


def test_changes_tell_when_they_apply(config: Config) -> None:
    timeouts = dataclasses.replace(config.timeouts, hang=5.0)
    rollout = dataclasses.replace(config.rollout, health_check=None)
    other = dataclasses.replace(config, threads=8, listen=config.listen[:1], timeouts=timeouts, rollout=rollout)
    found = {change.setting.key: change for change in changes(written(config), written(other))}
    assert list(found) == [
        "listen",
        "threads",
        *(key for key in BY_KEY if key.startswith("rollout.health_check.")),
        "timeouts.hang",
    ]
    assert found["listen"].setting.applies is Applies.RESTART
    assert found["threads"].setting.applies is Applies.NEXT_GENERATION
    assert (found["timeouts.hang"].before, found["timeouts.hang"].after) == ("1h", "5s")
    assert found["timeouts.hang"].setting.applies is Applies.NEXT_GENERATION
    assert found["rollout.health_check.path"].after is None

"""The defaults that a platform gives in environment variables."""

from pathlib import Path

import pytest

from clusterd.config.reading.loader import ConfigError, load
from clusterd.config.reading.platform import notes, platform_defaults
from tests.support.configurations import write

pytestmark = pytest.mark.engine_independent

GIVEN = {"PORT": "5000", "WEB_CONCURRENCY": "3"}


def test_they_are_defaults(tmp_path: Path) -> None:
    config = load(write(tmp_path, "app: shop:app"), defaults=platform_defaults(GIVEN))
    assert ([str(each) for each in config.listen], config.workers) == (["0.0.0.0:5000"], 3)
    assert len(notes(platform_defaults(GIVEN), None)) == 2


def test_the_file_and_flags_take_precedence(tmp_path: Path) -> None:
    path = write(tmp_path, "app: shop:app\nlisten: ['127.0.0.1:8005']")
    config = load(path, {"workers": ["7"]}, platform_defaults(GIVEN))
    assert ([str(each) for each in config.listen], config.workers) == (["127.0.0.1:8005"], 7)


@pytest.mark.parametrize("environ", [{}, {"PORT": "", "WEB_CONCURRENCY": ""}])
def test_without_them_nothing_changes(environ: dict[str, str]) -> None:
    assert platform_defaults(environ) == {}


@pytest.mark.parametrize(("name", "value"), [("PORT", "http"), ("PORT", "70000"), ("WEB_CONCURRENCY", "0")])
def test_what_is_not_allowed_is_said_by_the_name_of_the_variable(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as raised:
        platform_defaults({name: value})
    [problem] = raised.value.problems
    assert str(problem).startswith(f"{name}: the environment has {value!r}")

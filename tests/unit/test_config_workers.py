"""The setting `workers`: a number, `auto`, or a range, wherever it is given and shown."""

from pathlib import Path
from typing import Any

import pytest

from clusterd.cli.tables import changes_text, settings_lines
from clusterd.config.changes import changes
from clusterd.config.model import Config, WorkerRange, from_json, to_json
from clusterd.config.reading.loader import load_given
from clusterd.config.reading.platform import platform_defaults
from clusterd.config.reference import json_schema
from clusterd.config.written import nested, shown, written
from clusterd.supervisor.model.settings import Settings, settings_of
from tests.support.configurations import complaints, read
from tests.unit.test_config_schema import fits

pytestmark = pytest.mark.engine_independent

FEW = WorkerRange(min=2, max=8, shrink_after=30.0)


def given(workers: Any) -> Config:
    return load_given({"app": "a:b", "workers": workers}, "the tests")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{min: 2, max: 8}", FEW),
        ("\n  min: 2\n  max: 8\n  shrink_after: 30s", FEW),
        ("{min: 2, max: auto}", WorkerRange(2, None, 30.0)),
        ("{max: 8, min: 2, shrink_after: 2m}", WorkerRange(2, 8, 120.0)),
        ("{min: 4, max: 4}", WorkerRange(4, 4, 30.0)),
        ("2-8", FEW),
        ("'2-auto'", WorkerRange(2, None, 30.0)),
        ("4", 4),
        ("auto", None),
    ],
)
def test_a_file_has_a_number_or_a_range(tmp_path: Path, text: str, expected: object) -> None:
    assert read(tmp_path, f"app: a:b\nworkers: {text}\n").workers == expected


def test_so_have_a_flag_the_platform_and_a_program(tmp_path: Path) -> None:
    assert read(tmp_path, "app: a:b\nworkers: 3\n", workers="2-8").workers == FEW
    assert load_given({"app": "a:b"}, "here", platform_defaults({"WEB_CONCURRENCY": "2-8"})).workers == FEW
    assert given({"min": 2, "max": 8}).workers == FEW


@pytest.mark.parametrize("workers", [3, "auto", {"min": 2, "max": 8}, {"min": 2, "max": "auto", "shrink_after": "1m"}])
def test_it_is_shown_passed_on_and_read_as_the_same(workers: Any) -> None:
    config = given(workers)
    assert from_json(to_json(config), config.environment) == config
    assert load_given(nested(written(config)), "here") == config
    assert shown(written(config))["workers"] == written(config)["workers"]
    assert fits({"workers": workers}, json_schema())


@pytest.mark.parametrize("workers", [{"min": 2}, {"min": 0, "max": 8}, {"min": 2, "max": 8, "mx": 1}, "8 to 9", 0])
def test_an_editor_refuses_what_the_loader_refuses(workers: Any) -> None:
    assert not fits({"workers": workers}, json_schema())


def test_operators_see_it_as_the_file_has_it() -> None:
    fixed, elastic = written(given(3)), written(given({"min": 2, "max": 8}))
    text = "workers: 3 -> {min: 2, max: 8, shrink_after: 30s} (applies: next generation)"
    assert changes_text([row for change in changes(fixed, elastic) for row in change.shown()]) == text
    assert [line for line in settings_lines(nested(elastic)) if line.startswith("workers")] == [
        "workers.min: 2",
        "workers.max: 8",
        "workers.shrink_after: 30s",
    ]


def test_an_empty_range_lacks_both_numbers(tmp_path: Path) -> None:
    assert complaints(tmp_path, "app: a:b\nworkers: {}\n") == [
        "clusterd.yaml:2:10: workers.min: is missing (write a whole number from 1 to 1024)",
        "clusterd.yaml:2:10: workers.max: is missing (write a whole number from 1 to 1024, or auto)",
    ]


def test_auto_is_the_number_of_cpus_and_never_less_than_the_minimum() -> None:
    def numbers(workers: Any, cpus: int) -> tuple[int, int]:
        settings: Settings = settings_of(given(workers), cpus)
        return settings.workers, settings.most_workers

    assert numbers("auto", 4) == (4, 4)
    assert numbers({"min": 2, "max": "auto"}, 4) == (2, 4)
    assert numbers({"min": 2, "max": "auto"}, 1) == (2, 2)
    assert numbers({"min": 2, "max": 8}, 1) == (2, 8)
    assert numbers(3, 1) == (3, 3)

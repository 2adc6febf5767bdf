"""`run` in place of `app`: exactly one of them, and nothing beside it that means serving."""

import json
from pathlib import Path
from typing import Any

import pytest

from clusterd.cli.arguments import parse_arguments
from clusterd.config.model import from_json, to_json
from clusterd.config.reading.loader import load
from clusterd.config.reference import json_schema
from tests.support.configurations import complaint, write
from tests.unit.test_config_schema import fits

pytestmark = pytest.mark.engine_independent


def test_run_needs_no_app_and_listens_on_nothing(tmp_path: Path) -> None:
    config = load(write(tmp_path, "run: shop.jobs:main\n"))
    assert (config.app, config.run, config.listen) == (None, "shop.jobs:main", ())
    assert config.metrics.address is not None
    assert from_json(json.loads(json.dumps(to_json(config)))) == config


def test_without_run_there_is_none(tmp_path: Path) -> None:
    config = load(write(tmp_path, "app: a:b\nrun: null\n"))
    assert (config.app, config.run) == ("a:b", None)
    assert len(config.listen) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("threads: 1\n", "app is missing (write module:attribute, module:factory() or module)"),
        (
            "app: a:b\nrun: c:d\n",
            "clusterd.yaml:2:6: run: app is given too (clusterd.yaml:1:6), and a worker does one of them "  # noqa: ISC004
            "(keep one of them)",
        ),
        ("run: null\n", "clusterd.yaml:1:6: run: null, and there is no app (name one of them)"),
        ("run: jobs\n", "clusterd.yaml:1:6: run: found 'jobs', must be module:function, or null"),
        ("run: jobs:make()\n", "clusterd.yaml:1:6: run: found 'jobs:make()', must be module:function, or null"),
        (
            'run: a:b\nlisten: ["127.0.0.1:80"]\n',
            "clusterd.yaml:2:9: listen: a:b is run, which serves no HTTP (leave it out, or name an application in app)",
        ),
        (
            "run: a:b\nworkers: {min: 2, max: 8}\n",
            "clusterd.yaml:2:10: workers: a:b is run, and nothing tells clusterd how much work waits for it (give one ",
        ),
        (
            "run: a:b\nrollout:\n  health_check: {path: /}\n",
            "clusterd.yaml:3:24: rollout.health_check.path: a:b is run, which serves no HTTP",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_by_line(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in complaint(tmp_path, text)


def test_an_empty_listen_beside_run_is_no_mistake(tmp_path: Path) -> None:
    assert load(write(tmp_path, "run: a:b\nlisten: []\n")).listen == ()


def test_run_has_a_flag_that_needs_no_file() -> None:
    arguments = parse_arguments(["--run", "jobs:main"])
    assert arguments.config_path is None
    assert load(None, arguments.overrides).run == "jobs:main"


def test_a_flag_beside_the_files_app_is_refused_by_both_names(tmp_path: Path) -> None:
    assert complaint(tmp_path, "app: a:b\n", run="c:d").startswith("--run: app is given too (")


@pytest.mark.parametrize(("document", "is_good"), [({"run": "a:b"}, True), ({"run": None}, True), ({"run": 1}, False)])
def test_the_json_schema_knows_it(document: dict[str, Any], is_good: bool) -> None:
    assert fits(document, json_schema()) is is_good

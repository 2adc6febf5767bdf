"""Where the application may write: CLUSTERD_STATE_DIRECTORY, as systemd's StateDirectory= made it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.service import Service

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]

APPLICATION = """
import json, os
IMPORTED = os.environ.get("CLUSTERD_STATE_DIRECTORY")
def app(environ, start_response):
    body = json.dumps([IMPORTED, os.environ.get("CLUSTERD_STATE_DIRECTORY")]).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
HOOKS = """
import os
from clusterd import cluster
@cluster.on("online")
def online(worker):
    print("hooks write to", os.environ["CLUSTERD_STATE_DIRECTORY"], flush=True)
"""


def test_template_workers_and_hooks_are_told_the_first_directory(make_service: MakeService, tmp_path: Path) -> None:
    first = tmp_path / "state"
    service = make_service(hooks="hooks", workers=1)
    (service.directory / "hooks.py").write_text(HOOKS)
    service.deploy("1", APPLICATION)
    service.environment = {"STATE_DIRECTORY": f"{first}:{tmp_path / 'more'}"}
    service.start()
    assert json.loads(service.get().text) == [str(first), str(first)]
    service.wait_for_line(f"hooks write to {first}$")


def test_the_configuration_may_name_another_one(make_service: MakeService, tmp_path: Path) -> None:
    service = make_service(workers=1, environment={"CLUSTERD_STATE_DIRECTORY": "/srv/data"})
    service.deploy("1", APPLICATION)
    service.environment = {"STATE_DIRECTORY": str(tmp_path)}
    service.start()
    assert json.loads(service.get().text) == ["/srv/data", "/srv/data"]


def test_outside_of_a_unit_it_is_what_clusterd_was_started_with(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.deploy("1", APPLICATION)
    service.environment = {"STATE_DIRECTORY": "", "CLUSTERD_STATE_DIRECTORY": "/tmp/mine"}
    service.start()
    assert json.loads(service.get().text) == ["/tmp/mine", "/tmp/mine"]

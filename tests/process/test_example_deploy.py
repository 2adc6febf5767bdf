"""The example of a deploy by a link, as its README says, below a directory of the test."""

import http.client
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.clients import loaded
from tests.support.examples import EXAMPLES
from tests.support.service import PATIENCE_SECONDS, Service, wait_until

pytestmark = pytest.mark.engine_independent

EXAMPLE = EXAMPLES / "symlink_deploy"


class Deployed:
    """The shop of the example, and what its deploy script does with it."""

    def __init__(self, directory: Path, service: Service) -> None:
        self._source = directory / "source"
        self._bin = directory / "bin"
        self.destination = directory / "srv"
        self.service = service
        shutil.copytree(EXAMPLE / "shop", self._source)
        self._bin.mkdir()
        clusterctl = self._bin / "clusterctl"
        # Under the name that it is installed by.
        clusterctl.write_text(f'#!/bin/sh\nexec {sys.executable} -m clusterd.cli.clusterctl "$@"\n')
        clusterctl.chmod(0o755)
        service.config = directory / "clusterd.yaml"
        text = (EXAMPLE / "clusterd.yaml").read_text()
        service.config.write_text(
            text.replace("/srv/shop", str(self.destination))
            + f'listen: ["127.0.0.1:{service.port}"]\nmetrics: "127.0.0.1:{service.metrics_port}"\n'
            + f"control: {service.control}\n"
        )

    def deploy(self, change: Callable[[str], str] = str) -> "subprocess.CompletedProcess[str]":
        shop = self._source / "shop.py"
        shop.write_text(change(shop.read_text()))
        return subprocess.run(
            [EXAMPLE / "deploy", self._source, self.destination, self.service.config],
            env={**os.environ, "PATH": f"{self._bin}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def current(self) -> str:
        return os.readlink(self.destination / "current")


def ask(connection: http.client.HTTPConnection) -> str:
    connection.request("GET", "/")
    return connection.getresponse().read().decode()


def test_a_deploy_refuses_nobody_and_a_bad_one_changes_nothing(
    make_service: Callable[..., Service], tmp_path: Path
) -> None:
    deployed = Deployed(tmp_path, make_service())
    service = deployed.service
    first = deployed.deploy()
    assert (first.returncode, first.stdout) == (
        0,
        f"clusterd does not run; its next start serves {Path(deployed.current()).name}\n",
    )
    service.start()
    with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE_SECONDS)) as kept:
        kept.connect()
        kept.auto_open = 0  # nor connect again
        assert ask(kept).startswith("version one, generation 1")
        with loaded(service) as load:
            second = deployed.deploy(lambda text: text.replace('"one"', '"two"'))
        assert second.returncode == 0, second.stderr
        assert load.failures == []
        # Until it is handed over, the old worker answers.
        wait_until(lambda: ask(kept).startswith("version two, generation 2"), "the connection has moved")
        serving = deployed.current()

        third = deployed.deploy(lambda text: text.replace("def app", "def def app"))
        assert third.returncode == 1
        assert "SyntaxError" in third.stderr
        assert deployed.current() == serving
        assert ask(kept).startswith("version two, generation 2")

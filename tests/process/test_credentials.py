"""Secrets that systemd passes as files (`LoadCredential=`): the application reads them, and a reload keeps them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.service import Service

pytestmark = pytest.mark.engine_independent

READS = """
import os, pathlib

def secret():
    return (pathlib.Path(os.environ["CREDENTIALS_DIRECTORY"]) / "database").read_text()

AT_IMPORT = secret()

def app(environ, start_response):
    start_response("200 OK", [])
    return [f"{AT_IMPORT} {secret()} VERSION".encode()]
"""


@pytest.mark.parametrize("preload", [True, False])
def test_the_application_reads_its_credentials(
    make_service: Callable[..., Service], tmp_path: Path, preload: bool
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "database").write_text("password")
    service = make_service(preload=preload)
    service.environment["CREDENTIALS_DIRECTORY"] = str(credentials)
    service.deploy("1", READS)
    service.start()
    assert service.get().text == "password password 1"
    service.deploy("2", READS)
    assert service.reload().returncode == 0
    assert service.get().text == "password password 2"
    assert "password" not in service.log()
    assert "password" not in service.clusterctl("config").stdout

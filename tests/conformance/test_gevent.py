"""A client for PostgreSQL that waits in greenlets: psycopg2, by psycogreen."""

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import chown

import pytest

from tests.conformance.served import PYTHON
from tests.support.ports import free_port
from tests.support.service import Service

POSTGRESQL = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
MEETING = 8
"""Requests that have to be under way at once, in the one worker."""

pytestmark = pytest.mark.skipif(
    not (PYTHON.exists() and POSTGRESQL), reason="make conformance makes the frameworks' interpreter, with PostgreSQL"
)

APPLICATION = """
from gevent import monkey
monkey.patch_all()
from psycogreen.gevent import patch_psycopg
patch_psycopg()
import os, threading
import psycopg2
everyone = threading.Barrier(MEETING)
def app(environ, start_response):
    with psycopg2.connect(os.environ["DATABASE"]) as connection, connection.cursor() as cursor:
        cursor.execute("select pg_sleep(0.01)")
        everyone.wait(60)
        cursor.execute("select 6 * 7")
        answer = str(cursor.fetchone()[0]).encode()
    start_response("200 OK", [])
    return [answer]
"""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[str]:
    """A server of its own, as the user that its package has made; how to connect to it."""
    directory = tmp_path / "database"
    directory.mkdir()
    chown(directory, "postgres", "postgres")
    for each in directory.parents:
        if each != Path("/tmp") and each.is_relative_to("/tmp"):
            each.chmod(0o755)
    port = free_port()

    def run(program: str, *arguments: str) -> None:
        as_user = ("setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups")
        command = (*as_user, str(POSTGRESQL[-1] / program), "-D", str(directory / "data"), *arguments)
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL)

    run("initdb", "--auth", "trust", "--no-sync")
    options = f"-p {port} -k {directory} -h 127.0.0.1"
    run("pg_ctl", "--wait", "--log", str(directory / "log"), "-o", options, "start")
    yield f"host=127.0.0.1 port={port} user=postgres"
    run("pg_ctl", "--wait", "--mode", "fast", "stop")


def test_queries_of_one_worker_wait_beside_each_other(database: str, tmp_path: Path) -> None:
    directory = tmp_path / "service"
    directory.mkdir()
    settings = {"python": str(PYTHON), "workers": 1, "environment": {"DATABASE": database}}
    service = Service(directory, settings)
    service.deploy("1", APPLICATION.replace("MEETING", str(MEETING)))
    try:
        service.start()
        with ThreadPoolExecutor(MEETING) as clients:
            assert list(clients.map(lambda _: service.get().text, range(MEETING))) == ["42"] * MEETING
    finally:
        service.destroy()

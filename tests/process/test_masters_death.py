"""The master is killed, and the next one goes on with its workers: nobody else notices."""

from collections.abc import Callable

from tests.support.managed import ManagedService
from tests.support.service import wait_until

MakeManaged = Callable[..., ManagedService]
HELLO = """
import os
def app(environ, start_response):
    start_response("200 OK", [])
    return [f"1 {os.getpid()}".encode()]
"""


def test_the_next_master_goes_on_with_the_same_workers(make_managed: MakeManaged) -> None:
    service = make_managed()
    service.start()
    before = service.workers()
    service.kill_the_master()
    wait_until(lambda: service.seen().ready == 2, f"ready again:\n{service.log()}")
    after = service.workers()
    names = ("slot", "generation", "pid", "state", "restarts")
    assert [[each[name] for name in names] for each in after] == [[each[name] for name in names] for each in before]
    assert all(now["age"] >= then["age"] for now, then in zip(after, before, strict=True))
    service.deploy("2")
    assert service.reload().returncode == 0
    assert service.ask().version == "2"
    assert service.stop() == 0

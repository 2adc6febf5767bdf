"""clusterd as PID 1 of a container without systemd."""

import os
import signal
from pathlib import Path

from tests.support.processes import descendants
from tests.support.service import Service, wait_until

LEAVES_AN_ORPHAN = """
import os
def app(environ, start_response):
    if os.fork() == 0:
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    os.wait()
    start_response("200 OK", [])
    return [b"pid %d" % os.getpid()]
"""


def test_reaps_strangers_reloads_and_drains_on_term(able_machine: None, tmp_path: Path) -> None:
    service = Service(tmp_path, inside=("unshare", "--pid", "--fork", "--mount-proc"))
    service.deploy("1", LEAVES_AN_ORPHAN)
    try:
        service.start()
        master = descendants(service.pid)[0]
        assert service.get().text.startswith("pid ")
        reaped = "clusterd_strays_reaped_total 1.0"
        wait_until(lambda: reaped in service.metrics().text, "the orphan is reaped and counted")
        assert service.reload().returncode == 0
        os.kill(master, signal.SIGTERM)
        assert service.wait() == 0
        assert "clusterd[1] info: clusterd ends: asked to stop" in service.log()
    finally:
        service.destroy()

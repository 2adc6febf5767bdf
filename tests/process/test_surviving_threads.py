"""An application whose import starts threads that its library begins anew after a fork: it is preloaded."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.processes import descendants
from tests.support.service import HELLO, Service, wait_until
from tests.support.templates import titled

MakeService = Callable[..., Service]

LIBRARY = """
import os, threading
from pathlib import Path

class Sender:
    def __init__(self):
        self.lock = threading.Lock()
        self.begin()
        os.register_at_fork(after_in_child=self.begin)
    def begin(self):
        self.pid = os.getpid()
        self.thread = threading.Thread(target=self.send, name="sender", daemon=True)
        self.thread.start()
    def send(self):
        while not Path("busy").exists():
            threading.Event().wait(0.01)
        with self.lock:
            Path("taken").write_text(str(os.getpid()))
            threading.Event().wait()

with open("imports", "a") as imports:
    imports.write(f"{os.getpid()}\\n")
sender = Sender()
"""
APPLICATION = (
    LIBRARY
    + """
def app(environ, start_response):
    start_response("200 OK", [])
    senders = [each for each in threading.enumerate() if each.name == "sender"]
    if environ["PATH_INFO"] == "/lock":
        return [b"%d" % sender.lock.acquire(timeout=0)]
    return [b"%d %d %d" % (os.getpid(), len(senders), sender.thread.is_alive())]
"""
)
WITH_A_JOB = APPLICATION.replace(
    "    def begin(self):\n",
    "    def begin(self):\n"
    "        from concurrent.futures import ThreadPoolExecutor\n"
    "        with ThreadPoolExecutor() as executor:\n"
    "            executor.submit(os.getpid).result(60)\n",
)


@pytest.fixture
def service(make_service: MakeService) -> Service:
    service = make_service(workers=2)
    service.deploy("1", APPLICATION)
    return service


def imports(service: Service) -> list[int]:
    return [int(line) for line in (service.directory / "imports").read_text().split()]


def importing(service: Service) -> int:
    [pid] = titled(service, "import gen 1")
    return pid


@pytest.mark.parametrize("application", [APPLICATION, WITH_A_JOB], ids=["alone", "waits for a job"])
def test_it_is_imported_once_and_each_worker_has_the_thread(make_service: MakeService, application: str) -> None:
    service = make_service(workers=2)
    service.deploy("1", application)
    service.start()
    assert "preload" not in service.log()
    assert imports(service) == [importing(service)]
    for worker in service.workers():
        os.kill(worker["pid"], signal.SIGKILL)
    service.wait_for_line("worker failed: SIGKILL")
    service.wait_for_status("^Serving: 2 workers")
    assert {service.get().text.partition(" ")[2] for _ in range(10)} == {"1 1"}
    assert imports(service) == [importing(service)]
    assert service.reload().returncode == 0
    assert len(imports(service)) == 2
    assert service.stop() == 0


def test_a_worker_does_not_inherit_what_the_thread_of_the_import_is_doing(service: Service) -> None:
    service.configure(workers=1)
    service.start()
    [before] = service.workers()
    os.kill(before["pid"], signal.SIGSTOP)  # Or its own thread would take the turn.
    taken = service.directory / "taken"
    (service.directory / "busy").touch()
    wait_until(lambda: taken.exists() and taken.read_text() == str(importing(service)), "the import's thread works")
    (service.directory / "busy").unlink()
    os.kill(before["pid"], signal.SIGKILL)
    wait_until(lambda: [w for w in service.workers() if w["pid"] != before["pid"]], "a successor serves")
    assert service.get("/lock").text == "1"


def test_what_an_import_removes_at_its_end_is_removed_when_all_workers_have_gone(service: Service) -> None:
    service.deploy("1", APPLICATION + "import tempfile\nkept = tempfile.TemporaryDirectory(dir='.', prefix='kept')\n")
    service.start()
    assert service.clusterctl("restart", "1").returncode == 0
    [kept] = service.directory.glob("kept*")
    assert service.stop() == 0
    assert not kept.exists()


def test_the_spare_takes_the_place_of_the_process_that_forks(service: Service) -> None:
    service.start()
    wait_until(lambda: titled(service, "spare gen 1"), "there is a spare")
    [template], imported = titled(service, "template gen 1"), importing(service)
    os.kill(template, signal.SIGKILL)
    service.wait_for_line("the spare template takes over")
    wait_until(lambda: not {template, imported} & set(descendants(service.pid)), "both have gone")
    os.kill(service.workers()[0]["pid"], signal.SIGKILL)
    service.wait_for_line("worker failed: SIGKILL")
    service.wait_for_status("^Serving: 2 workers")
    assert {service.get().text.partition(" ")[2] for _ in range(10)} == {"1 1"}
    assert service.stop() == 0
    assert "Traceback" not in service.log()


def test_the_process_that_forks_dies_with_the_one_that_has_imported(service: Service) -> None:
    service.start()
    wait_until(lambda: titled(service, "spare gen 1"), "there is a spare")
    [template] = titled(service, "template gen 1")
    os.kill(importing(service), signal.SIGKILL)
    service.wait_for_line("template died: SIGKILL")
    wait_until(lambda: not Path(f"/proc/{template}").exists(), "the copy has gone")
    service.wait_for_line("the spare template takes over")
    assert service.ask_to_reload()["succeeded"]


def test_a_fork_handler_that_hangs_means_no_preload(service: Service) -> None:
    service.deploy("1", HANGS + HELLO)
    service.start()
    service.wait_for_line("not preloaded.*does not get through the fork handlers")
    assert service.ask().version == "1"


def test_a_worker_in_a_trial_that_hangs_leaves_no_process(make_service: MakeService, tmp_path: Path) -> None:
    in_trial = tmp_path / "in trial"
    in_trial.touch()
    source = f"""
import os, pathlib, threading
imports = os.getpid()
def hang():
    if os.getppid() != imports and pathlib.Path({str(in_trial)!r}).exists():
        threading.Event().wait()
threading.Thread(target=threading.Event().wait, daemon=True).start()
os.register_at_fork(after_in_child=hang)
"""
    service = make_service(workers=1, preload=True)
    service.deploy("1", source + HELLO)
    service.start(wait=False)
    service.wait_for_line("preload is true, but .*does not get through the fork handlers")
    in_trial.unlink()
    service.wait_for_line("worker ready")
    wait_until(lambda: titled(service, "spare gen 1"), "there is a spare")
    # What is left of a trial looks like the template.
    wait_until(lambda: len(titled(service, "template gen 1")) == 1, "no process of the trial is left")


HANGS = """
import os, threading
threading.Thread(target=threading.Event().wait, name="poller", daemon=True).start()
os.register_at_fork(after_in_child=lambda: "CLUSTERD_WORKER" in os.environ or threading.Event().wait())
"""

CONNECTS = """
import os, socket
listening = socket.create_server(("127.0.0.1", 0))
connected = socket.create_connection(listening.getsockname())
accepted = listening.accept()[0]
listening.close()

def close():
    connected.close()
    accepted.close()
"""


@pytest.mark.parametrize("closes", [True, False])
def test_a_connection_that_a_fork_handler_closes_is_no_finding(make_service: MakeService, *, closes: bool) -> None:
    handler = "os.register_at_fork(after_in_child=close)\n" if closes else ""
    service = make_service(workers=1)
    service.deploy("1", CONNECTS + handler + HELLO)
    service.start()
    found = re.search(r"not preloaded.*is a socket connected to", service.log())
    assert (found is None) is closes

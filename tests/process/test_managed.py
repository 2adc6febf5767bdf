"""The stand-in for systemd does what systemd does, as far as tests rely on it."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.managed import ManagedService
from tests.support.processes import is_alive
from tests.support.service import wait_until
from tests.support.service_manager import LEFT_SOMETHING

pytestmark = pytest.mark.engine_independent

MakeManaged = Callable[..., ManagedService]

PROGRAM = """
import json, os, signal, socket, subprocess, sys, time
from array import array

note = sys.argv[1]
names = os.environ["LISTEN_FDNAMES"].split(":")
kept = {name: os.pread(3 + number, 100, 0).decode() for number, name in enumerate(names) if name.startswith("m-")}
mine = os.environ["LISTEN_PID"] == str(os.getpid())
with open(note, "a") as file:
    print(json.dumps({"names": names, "kept": kept, "mine": mine}), file=file)

def send(text, *descriptors):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
        sock.sendmsg([text.encode()], rights, 0, os.environ["NOTIFY_SOCKET"])

def memory(text):
    descriptor = os.memfd_create("kept")
    os.write(descriptor, text.encode())
    return descriptor

FIRST = not kept
BODY
signal.pause()
"""


def program(service: ManagedService, body: str) -> Path:
    """Have the manager run this in place of clusterd. Return the file in which each start is noted."""
    script = service.directory / "program.py"
    script.write_text(PROGRAM.replace("BODY", body))
    notes = service.directory / "notes"
    service.inside = (*service.inside, service.python, str(script), str(notes))
    return notes


def starts(notes: Path, number: int) -> list[dict[str, Any]]:
    """What the program has noted, once it has been started so often."""

    def read() -> list[dict[str, Any]] | None:
        lines = notes.read_text().splitlines() if notes.exists() else []
        return [json.loads(line) for line in lines] if len(lines) >= number else None

    noted: list[dict[str, Any]] = wait_until(read, f"{number} starts")
    return noted


def start(service: ManagedService, body: str) -> Path:
    notes = program(service, body)
    service.start(wait=False)
    starts(notes, 1)
    return notes


STORES = """
if FIRST:
    send("FDSTORE=1\\nFDPOLL=0\\nFDNAME=m-1", memory("one"))
    two = memory("two")
    send("FDSTORE=1\\nFDPOLL=0\\nFDNAME=m-2", two)
    send("FDSTORE=1\\nFDPOLL=0\\nFDNAME=m-3", two)
    send("FDSTORE=1\\nFDPOLL=0\\nFDNAME=m-4", memory("four"))
    send("FDSTOREREMOVE=1\\nFDNAME=m-1")
send("READY=1\\nSTATUS=up")
"""


def test_stored_descriptors_reach_the_next_process(make_managed: MakeManaged) -> None:
    service = make_managed()
    notes = start(service, STORES)
    wait_until(lambda: service.seen().ready == 1, "ready")
    assert [name for name, _ in service.seen().stored] == ["m-4", "m-2"]
    service.kill_the_master()
    first, second = starts(notes, 2)
    assert first == {"names": ["http", "metrics"], "kept": {}, "mine": True}
    assert second == {"names": ["http", "metrics", "m-4", "m-2"], "kept": {"m-4": "four", "m-2": "two"}, "mine": True}
    seen = wait_until(lambda: service.seen() if service.seen().ready == 2 else None, "ready again")
    assert seen.ends == (-signal.SIGKILL,)
    assert seen.status == "up"


def test_a_dropped_store_is_empty(make_managed: MakeManaged) -> None:
    service = make_managed()
    notes = start(service, STORES)
    wait_until(lambda: service.seen().ready == 1, "ready")
    service.drop_store()
    assert service.seen().stored == ()
    service.kill_the_master()
    assert starts(notes, 2)[1]["names"] == ["http", "metrics"]


def test_no_more_is_kept_than_the_unit_allows(make_managed: MakeManaged) -> None:
    service = make_managed(most_stored=2)
    start(service, STORES)
    wait_until(lambda: service.seen().ready == 1, "ready")
    assert [name for name, _ in service.seen().stored] == ["m-2"]


def test_what_has_ended_is_dropped_unless_it_is_stored_without_polling(make_managed: MakeManaged) -> None:
    service = make_managed()
    pairs = """
    near, far = socket.socketpair()
    send("FDSTORE=1\\nFDNAME=POLLED", near.fileno())
    near2, far2 = socket.socketpair()
    send("FDSTORE=1\\nFDPOLL=0\\nFDNAME=NOT-POLLED", near2.fileno())
    far.close(), far2.close()
    """
    start(service, f"if True:{pairs}")
    wait_until(lambda: [name for name, _ in service.seen().stored] == ["NOT-POLLED"], "the other one is dropped")


def test_other_processes_are_not_heard(make_managed: MakeManaged) -> None:
    service = make_managed()
    start(service, 'if not os.fork(): send("FDSTORE=1\\nFDNAME=m-1", memory("x")); os._exit(0)')
    wait_until(lambda: service.seen().refused == 1, "a refused message")
    assert service.seen().stored == ()


def test_a_barrier_is_answered_when_the_test_says(make_managed: MakeManaged) -> None:
    service = make_managed()
    body = """
reader, writer = os.pipe()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
signal.sigwait([signal.SIGUSR1])
send("BARRIER=1", writer)
os.close(writer)
sent_at = time.monotonic()
os.read(reader, 1)
send(f"STATUS={time.monotonic() - sent_at}")
"""
    start(service, body)
    service.delay_barriers(0.3)
    service.signal(signal.SIGUSR1)
    assert float(wait_until(lambda: service.seen().status, "an answer")) >= 0.3


def test_an_end_with_a_status_is_the_end(make_managed: MakeManaged) -> None:
    service = make_managed()
    start(service, "sys.exit(70)")
    assert service.wait() == 70


def test_what_does_not_end_by_itself_is_reported(make_managed: MakeManaged) -> None:
    """And what a dead master has left behind is the manager's child: nothing is left after the test."""
    service = make_managed(ending_seconds=0.5)
    body = """
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], close_fds=True)
send(f"READY=1\\nSTATUS={child.pid}")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
"""
    start(service, body)
    wait_until(lambda: service.seen().ready == 1, "ready")
    pid = int(service.seen().status)
    assert is_alive(pid)
    assert service.stop() == LEFT_SOMETHING
    assert not is_alive(pid)


def test_clusterd_is_started_with_its_sockets_and_again_when_it_is_killed(make_managed: MakeManaged) -> None:
    service = make_managed()
    service.start()
    assert service.get().status_code == 200
    assert service.metrics().status_code == 200
    first = service.pid
    service.kill_the_master()
    wait_until(lambda: service.seen().ready == 2, f"ready again:\n{service.log()}")
    assert service.pid != first
    assert service.get().status_code == 200
    assert service.seen().stopping == 0
    assert service.stop() == 0
    assert not os.path.exists(f"/proc/{first}")

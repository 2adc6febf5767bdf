"""What of an import is said to be broken by a fork, by what there is before it and after it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clusterd.template import findings
from clusterd.template.findings import Descriptor, Inventory, Thread, broken

pytestmark = pytest.mark.engine_independent

SENDER = Thread("sender-1", "sender-")
SOCKET = Descriptor(7, (8, 1234), "descriptor 7 is a socket connected to ('127.0.0.1', 80)")


def test_a_thread_that_is_begun_anew_is_no_finding() -> None:
    assert broken(Inventory((SENDER,)), Inventory((Thread("sender-2", "sender-"),))) == []


def test_a_thread_that_is_not_begun_anew_is_named() -> None:
    assert broken(Inventory((SENDER,)), Inventory()) == ["thread 'sender-1' is running"]
    assert broken(Inventory((SENDER,)), Inventory((Thread("other", "other"),))) == ["thread 'sender-1' is running"]


def test_of_two_threads_of_a_kind_each_has_to_be_begun_anew() -> None:
    assert broken(Inventory((SENDER, SENDER)), Inventory((SENDER,))) == ["thread 'sender-1' is running"]


def test_a_descriptor_that_is_closed_or_another_file_is_no_finding() -> None:
    assert broken(Inventory((), (SOCKET,)), Inventory()) == []
    replaced = Descriptor(7, (8, 1235), SOCKET.description)
    assert broken(Inventory((), (SOCKET,)), Inventory((), (replaced,))) == []


def test_a_descriptor_that_both_processes_have_is_described() -> None:
    assert broken(Inventory((), (SOCKET,)), Inventory((), (SOCKET,))) == [SOCKET.description]


def test_a_library_that_begins_its_thread_when_it_has_something_to_do_is_known() -> None:
    assert broken(Inventory((Thread("sentry-sdk.BackgroundWorker", "sentry"),)), Inventory()) == []


def test_a_library_that_does_not_survive_is_named_whatever_is_begun_anew() -> None:
    core = Thread("grpc_global_tim", "grpc_global_tim")
    assert broken(Inventory((core,)), Inventory((core,))) == ["thread 'grpc_global_tim' is running (gRPC)"]


MANY = """
import os, resource, socket
from clusterd.process.fork_hygiene import wait_for_adoption
from clusterd.template.findings import open_descriptors, try_fork

resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
before = open_descriptors()
pairs = [socket.socketpair() for _ in range(800)]
"""
FINDS = """
findings = try_fork(before)
print(len(findings.broken), findings.broken[-1].partition(" is ")[2], findings.may_stand_aside)
"""
IS_ADOPTED = """
reader, writer = os.pipe()
os.close(writer)
os.pidfd_open = lambda _: reader  # of a process that has ended
wait_for_adoption(0)
print("adopted")
"""


def said(script: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(Path(findings.__file__).parents[2])}
    command = [sys.executable, "-c", script]
    ran = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=60)
    return ran.stdout or ran.stderr


def test_as_many_connections_as_an_import_may_open_are_findings() -> None:
    assert said(MANY + FINDS) == "100 a socket connected to another of this process False\n"


def test_a_worker_with_as_many_waits_for_its_adoption() -> None:
    assert said(MANY + IS_ADOPTED) == "adopted\n"


REAPED = """
import os, signal, time
from clusterd.runtime import originals
from clusterd.template.findings import open_descriptors, try_fork

if {handled}:
    signal.signal(signal.SIGCHLD, lambda *_: os.waitpid(-1, 0))
else:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
fork = originals.fork

def fork_and_lose_the_child():
    child = fork()
    while child and os.path.exists(f"/proc/{{child}}"):
        time.sleep(0.001)
    return child

originals.fork = fork_and_lose_the_child
print(try_fork(open_descriptors()).broken)
"""


@pytest.mark.parametrize("handled", [False, True])
def test_a_trial_that_the_application_has_reaped_first_has_ended(handled: bool) -> None:
    assert said(REAPED.format(handled=handled)) == "[]\n"

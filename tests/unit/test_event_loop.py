"""The loop of a worker can be run as long as the process lives. In processes of their own: others may know uvloop."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import clusterd

pytestmark = pytest.mark.engine_independent

LIMITED = """
import asyncio, os, resource, socket, threading, time
from clusterd.runtime import event_loop
from clusterd.runtime.event_loop import new_event_loop

def opened():
    return set(os.listdir("/proc/self/fd"))

def limit(descriptors):
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

def use_all():
    limit(max(map(int, opened())) + 1)
    taken = []
    while True:
        try:
            taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            return taken

def run():
    loop.run_until_complete(asyncio.sleep(0))
"""
AGAIN = """
loop = new_event_loop(is_observed=OBSERVED)
use_all()
for _ in range(3):
    run()
"""
AMONG_THREADS = """
loop = new_event_loop()
use_all()

def takes_what_is_free():
    while True:
        try:
            os.close(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            time.sleep(0.0001)

for _ in range(2):
    threading.Thread(target=takes_what_is_free, daemon=True).start()
for _ in range(100):
    run()
os._exit(0)  # The end of a thread needs a descriptor.
"""
WAITS = """
loop = new_event_loop()
run()
before = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
waits = []

async def others_take_them():
    limit(3)

def wait(seconds):
    waits.append(seconds)
    if len(waits) == 3:
        limit(before)

event_loop.sleep = wait
loop.run_until_complete(others_take_them())
run()
assert len(waits) == 3
"""
LEAVES_NOTHING = """
new_event_loop().close()
loop = new_event_loop()
run()
loop.close()
before = opened()  # With what libuv opens once in a process.
loop = new_event_loop()
run()
loop.close()
assert opened() == before
"""
REFUSES = """
loop = new_event_loop()

async def nested():
    try:
        loop.run_forever()
    except RuntimeError as error:
        return str(error)

use_all()
assert loop.run_until_complete(nested()) == "this event loop is already running."
loop.close()
before = opened()
try:
    loop.run_forever()
except RuntimeError as error:
    assert str(error) == "Event loop is closed"
assert opened() == before
"""
OF_A_CHILD = """
loop = new_event_loop()
run()
kept = {each.fileno() for each in event_loop._kept[0]}

def is_open(descriptor):
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True

assert all(map(is_open, kept))
child = os.fork()
if child == 0:
    os._exit(len(event_loop._kept) + sum(map(is_open, kept)))
assert os.waitpid(child, 0)[1] == 0
assert {each.fileno() for each in event_loop._kept[0]} == kept
run()
"""
PROGRAMS = {
    "it is run again without descriptors": AGAIN.replace("OBSERVED", "False"),
    "an observed one too": AGAIN.replace("OBSERVED", "True"),
    "among threads that take what is free": AMONG_THREADS,
    "it waits for descriptors": WAITS,
    "what it keeps goes with it": LEAVES_NOTHING,
    "a run that is refused takes nothing": REFUSES,
    "a forked child keeps none": OF_A_CHILD,
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_the_loop_lasts(program: str) -> None:
    """uvloop makes a pair of sockets each time that it is run in the main thread."""
    environment = {**os.environ, "PYTHONPATH": str(Path(clusterd.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", LIMITED + program], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")

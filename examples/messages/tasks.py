"""A program that is its own master: it gives tasks to workers, one at a time each, and adds up what they say."""

import sys
from collections import deque
from pathlib import Path
from typing import Any

from clusterd import Cluster

LARGEST = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
STEP = max(1, LARGEST // 50)

cluster = Cluster(run="primes:main", workers=4, directory=Path(__file__).parent)
waiting = deque([first, min(first + STEP, LARGEST)] for first in range(0, LARGEST, STEP))
under_way: dict[int, list[int]] = {}
"""By the worker's id. All handlers run in one thread: nothing here needs a lock."""
found = 0


def give(worker: Any) -> None:
    """The next task, if there is one, and the worker stays."""
    if waiting and worker.is_connected() and worker.id not in under_way:
        under_way[worker.id] = waiting.popleft()
        worker.send(under_way[worker.id])


@cluster.on("listening")
def begin(worker: Any, addresses: list[str]) -> None:
    """A worker is ready, the first one of its slot or the next."""
    give(worker)


@cluster.on("message")
def done(worker: Any, message: dict[str, Any]) -> None:
    """A task is done."""
    global found
    found += message["primes"]
    del under_way[worker.id]
    give(worker)
    if not waiting and not under_way:
        print(f"{found} primes below {LARGEST}", flush=True)
        cluster.disconnect()


@cluster.on("exit")
def died(worker: Any, code: int | None, signal: str | None) -> None:
    """What it was doing has to be done by another."""
    if task := under_way.pop(worker.id, None):
        print(f"worker {worker.id} has ended ({signal or code}): its task is another's", flush=True)
        waiting.appendleft(task)
        for other in cluster.workers.values():
            give(other)


if cluster.is_primary:
    sys.exit(cluster.run())

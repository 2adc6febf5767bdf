"""Jobs from a stream of Redis: each is done at least once, also if the worker or the host that has it dies."""

import os
import socket
from typing import Any

import redis

from clusterd import worker

STREAM, GROUP, RESULTS, GIVEN_UP = "jobs", "workers", "jobs:results", "jobs:given-up"
IDLE_MILLISECONDS = int(os.environ.get("JOBS_IDLE_MILLISECONDS", "60000"))
"""A job whose worker has said nothing for so long is another's. It must be longer than the longest job."""
MOST_DELIVERIES = 5
"""A job that has killed as many workers kills no more."""
POLL_MILLISECONDS = min(1000, IDLE_MILLISECONDS)

store = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True, socket_timeout=5, retry=None)


def main() -> None:
    """Take jobs until the worker is to stop. What a drain finds begun is done first."""
    name = f"{socket.gethostname()}-{os.getpid()}"
    while not worker.should_stop:
        try:
            ensure_group()
            while not worker.should_stop:
                for number, job in taken(name):
                    do(number, job)
        except redis.RedisError as error:
            print(f"no jobs: {error}", flush=True)
            worker.stop_event.wait(1)


def ensure_group() -> None:
    """Make the group, which a Redis without its data has lost."""
    try:
        store.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    except redis.ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise


def taken(name: str) -> list[tuple[str, dict[str, Any]]]:
    """A job of a dead worker or, if there is none, a new one. An empty list if there is neither for a while."""
    _, claimed, _ = store.xautoclaim(STREAM, GROUP, name, IDLE_MILLISECONDS, count=1)
    if claimed:
        return list(claimed)
    new = store.xreadgroup(GROUP, name, {STREAM: ">"}, count=1, block=POLL_MILLISECONDS)
    return list(new[0][1]) if new else []


def do(number: str, job: dict[str, Any]) -> None:
    """Do a job and keep its result. Done twice, it has one result all the same: the number is the job's."""
    delivery = next(iter(store.xpending_range(STREAM, GROUP, number, number, 1)), None)
    if delivery is None:  # another has done it meanwhile
        return
    kept, value = RESULTS, ""
    if delivery["times_delivered"] > MOST_DELIVERIES:
        kept, value = GIVEN_UP, str(job)
    else:
        value = str(sum(range(int(job["to"]) + 1)))
    with store.pipeline(transaction=True) as together:  # the result is there if the job is gone, and only then
        together.hset(kept, number, value)
        together.xack(STREAM, GROUP, number)
        together.xdel(STREAM, number)
        together.execute()

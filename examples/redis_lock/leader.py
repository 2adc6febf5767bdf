"""One worker of all hosts leads; when it ends, or its host dies, another does. The lock has a time limit, in Redis."""

import os
import socket

import redis
from redis.exceptions import LockError

from clusterd import worker

SECONDS = float(os.environ.get("LOCK_SECONDS", "15"))
"""For how long the lock is held without being renewed: so long nobody leads after a death."""

store = redis.Redis.from_url(os.environ["REDIS_URL"], socket_timeout=min(5.0, SECONDS / 3), retry=None)


def main() -> None:
    """Try to lead until the worker is to stop."""
    while not worker.stop_event.wait(SECONDS / 10):
        lock = store.lock("leader", timeout=SECONDS, blocking=False)
        try:
            if lock.acquire():
                try:
                    lead(store.incr("leader:term"), lock)
                finally:
                    print("leads no longer", flush=True)
                    lock.release()  # others need not wait for the time limit
        except (LockError, redis.RedisError) as error:
            print(f"not the leader: {error}", flush=True)


def lead(term: int, lock: redis.lock.Lock) -> None:
    """Do the work in small steps, and renew the lock between them.

    A process that is stopped for longer than the lock does not notice that another leads. So what it writes must be
    refused then: the number of the term only grows, and a store can keep the highest that it has seen.
    """
    print(f"leads in term {term}", flush=True)
    store.rpush("leader:terms", f"{term} {socket.gethostname()} {os.getpid()}")
    while not worker.stop_event.wait(SECONDS / 5):
        lock.extend(SECONDS, replace_ttl=True)  # raises LockNotOwnedError if it was lost

"""The memory of eight workers of an application that imports Flask and FastAPI, after load: `application_memory.py`.

It is the proportional set size (proc(5)) of every process together: a page that several share is counted once.
"""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from bench import servers
from bench.loads.wrk import wrk
from bench.processes import family, private_memory, proportional_set_size
from bench.report import show
from bench.servers import Server

WORKERS = 8
SECONDS = 4
REST_SECONDS = 1
ROUNDS = 3
MOST_MEGABYTES = 100
MOST_MASTER_MEGABYTES = 14
MOST_PRIVATE_MEGABYTES = 4.5
APPLICATION = "flask_and_fastapi:app"
MEGABYTE = 1e6


def findings(rounds: int = ROUNDS) -> Iterator[tuple[str, bool]]:
    """Beside gunicorn, which imports the application before it forks too."""
    found: dict[str, list[dict[str, list[float]]]] = {}
    for _ in range(rounds):
        for server in (servers.CLUSTERD_THREADS, servers.GUNICORN_PRELOADED):
            found.setdefault(server.name, []).append(_round(server))
    ours, theirs = (
        statistics.median(sum(seen["all"]) for seen in found[server.name])
        for server in (servers.CLUSTERD_THREADS, servers.GUNICORN_PRELOADED)
    )
    master, private = (
        statistics.median(each for seen in found[servers.CLUSTERD_THREADS.name] for each in seen[what])
        for what in ("master", "private")
    )
    yield f"clusterd: {ours:.0f} MB after load (at most {MOST_MEGABYTES})", ours <= MOST_MEGABYTES
    yield f"gunicorn --preload: {theirs:.0f} MB, of which clusterd has {ours / theirs:.2f} (at most 1)", ours <= theirs
    yield f"the master: {master:.1f} MB (at most {MOST_MASTER_MEGABYTES})", master <= MOST_MASTER_MEGABYTES
    text = f"a worker's private memory: {private:.1f} MB (at most {MOST_PRIVATE_MEGABYTES:g})"
    yield text, private <= MOST_PRIVATE_MEGABYTES


def _round(server: Server) -> dict[str, list[float]]:
    with server.running(APPLICATION, WORKERS) as port:
        wrk("/", 64)(port, SECONDS)
        time.sleep(REST_SECONDS)  # for what is freed when nothing is asked for
        pids = [pid for child in Path("/proc/thread-self/children").read_text().split() for pid in family(int(child))]
        workers = [pid for pid in pids if Path(f"/proc/{pid}/comm").read_text().startswith("clusterd-w")]
        return {
            "all": [proportional_set_size(pid) / MEGABYTE for pid in pids],
            "master": [proportional_set_size(pids[0]) / MEGABYTE],
            "private": [private_memory(pid) / MEGABYTE for pid in workers],
        }


if __name__ == "__main__":
    show(findings())

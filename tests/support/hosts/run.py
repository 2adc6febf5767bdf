"""`make lab`: the laboratory to play with, until Ctrl-C. `python -m tests.support.hosts.run SUITE PACKAGE`."""

import signal
import sys
from pathlib import Path

from tests.support.hosts.laboratory import Laboratory, laboratory
from tests.support.machines.prerequisites import missing_prerequisite
from tests.support.machines.roots import cached_root


def _told(lab: Laboratory) -> str:
    lines = [f"clients    10.99.0.1   nsenter --net --target {lab.clients.pid} curl {lab.balancer.url}"]
    for host in (lab.balancer.host, *lab.hosts):
        lines.append(f"{host.name:10} {host.address}  nsenter --all --target {host.machine.leader} bash")
    lines.append(f"From the balancer, root enters each host: ssh {lab.hosts[0].address}")
    return "\n".join(lines)


def main(suite: str, package: Path) -> None:
    """Start everything, say where it is, wait for Ctrl-C, and remove everything."""
    if missing := missing_prerequisite():
        sys.exit(f"the laboratory needs {missing}")
    signals = {signal.SIGINT, signal.SIGTERM}
    with laboratory(suite, cached_root(suite), package) as lab:
        lab.serve()
        print(_told(lab), flush=True)
        print("Ctrl-C ends it.", flush=True)
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        signal.sigwait(signals)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

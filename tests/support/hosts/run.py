"""`make lab`: the laboratory to play with, until Ctrl-C. `python -m tests.support.hosts.run SUITE PACKAGE`."""

import signal
import sys
import tempfile
from pathlib import Path

from tests.support.alerting import ALERTS, RULES
from tests.support.hosts.ansible import Administrator
from tests.support.hosts.laboratory import Laboratory, laboratory
from tests.support.hosts.watching import PORT, watched
from tests.support.machines.prerequisites import missing_prerequisite
from tests.support.machines.roots import cached_root


def _told(lab: Laboratory) -> str:
    clients = f"nsenter --net --target {lab.clients.pid} curl"
    lines = [f"clients    10.99.0.1   {clients} {lab.balancer.url}"]
    lines.append(f"Prometheus 10.99.0.1   {clients} http://127.0.0.1:{PORT}/api/v1/query?query=up")
    for host in (lab.balancer.host, *lab.hosts):
        lines.append(f"{host.name:10} {host.address}  nsenter --all --target {host.machine.leader} bash")
    lines.append(f"From the balancer, root enters each host: ssh {lab.hosts[0].address}")
    return "\n".join(lines)


def main(suite: str, package: Path) -> None:
    """Start everything, say where it is, wait for Ctrl-C, and remove everything."""
    if missing := missing_prerequisite():
        sys.exit(f"the laboratory needs {missing}")
    signals = {signal.SIGINT, signal.SIGTERM}
    with laboratory(suite, cached_root(suite), package) as lab, tempfile.TemporaryDirectory() as kept:
        lab.serve()
        Administrator(lab).play("prometheus")
        with watched(lab, Path(kept), [RULES, ALERTS]):
            print(_told(lab), flush=True)
            print("Ctrl-C ends it.", flush=True)
            signal.pthread_sigmask(signal.SIG_BLOCK, signals)
            signal.sigwait(signals)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

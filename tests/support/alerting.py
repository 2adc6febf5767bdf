"""The alerts and the dashboard that the package ships, at services that a real Prometheus watches."""

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.support.prometheus import Prometheus
from tests.support.service import Service, wait_until

PACKAGING = Path(__file__).parents[2] / "packaging"
RULES, ALERTS = PACKAGING / "prometheus/clusterd.rules.yml", PACKAGING / "prometheus/clusterd.alerts.yml"
DASHBOARD = PACKAGING / "grafana/clusterd.json"

_HURRY = 150
_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_find_durations = re.compile(r"\b([0-9]+)([smhd])\b")


def shipped_queries() -> list[str]:
    """The queries of the dashboard."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


OF_A_SERVICE, OF_HOSTS = "clusterd", "clusterd_hosts"
"""The groups of alerts."""


def shipped_alerts(*groups: str) -> list[dict[str, Any]]:
    """The rules of the alerts: of these groups, or all."""
    found = {group["name"]: group["rules"] for group in yaml.safe_load(ALERTS.read_text())["groups"]}
    return [rule for name in groups or found for rule in found[name]]


def hurried(rules: Path, directory: Path) -> Path:
    """A copy of a file of rules for a test, which has seconds where an operator has minutes.

    Every duration is 150 times shorter: the windows of the expressions (`[5m]`), and how long an alert waits (`for:`).
    Nothing else changes: a name such as `rate5m` is no duration, and thresholds have no unit.
    """
    document = yaml.safe_load(rules.read_text())
    for group in document["groups"]:
        for rule in group["rules"]:
            for key in {"expr", "for"} & rule.keys():
                rule[key] = _find_durations.sub(_shortened, rule[key])
    copy = directory / rules.name
    copy.write_text(yaml.safe_dump(document))
    return copy


def _shortened(duration: re.Match[str]) -> str:
    return f"{int(duration[1]) * _UNITS_MS[duration[2]] // _HURRY}ms"


ILL = """
import os, signal, threading, time
from pathlib import Path

HERE = Path(__file__).parent
KEPT = []

def begin():
    while (HERE / "hold").exists():
        time.sleep(0.01)

def wait_for_the_end():
    while not (HERE / "go_on").exists():
        time.sleep(0.01)

def read_much():
    with open(HERE / "large", "wb+") as file:
        file.truncate(300 << 20)
        while file.read(1 << 20):
            pass

def app(environ, start_response):
    many = int(environ["QUERY_STRING"] or 0)
    match environ["PATH_INFO"]:
        case "/dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "/hangs":
            threading.Event().wait()
        case "/waits":
            wait_for_the_end()
        case "/slow":
            time.sleep(1.1)
        case "/opens":
            KEPT.extend(open(HERE / "leaking", "w") for _ in range(many))
        case "/grows":
            KEPT.append(b"x" * many)
        case "/reads":
            read_much()
        case "/fails":
            raise RuntimeError("x" * many)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
"""An application that has what ills one asks it for."""

BLOCKS = """
import time

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise ValueError
    block(float(scope["query_string"]))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})

def block(seconds):
    time.sleep(seconds)
"""
"""One that blocks its event loop for as long as one asks it for."""


class Watched:
    """A service, and what Prometheus alerts of it."""

    def __init__(self, service: Service, prometheus: Prometheus) -> None:
        self.service = service
        self.seen: set[str] = set()
        """The alerts that were waited for, and fired."""
        self._prometheus = prometheus
        self._instance = f'instance="127.0.0.1:{service.metrics_port}"'

    def start(self) -> Service:
        """Start it, and see that Prometheus has nothing to alert of."""
        self.service.start()
        wait_until(lambda: self._prometheus.value(f"up{{{self._instance}}}") == 1, "Prometheus scrapes it")
        wait_until(lambda: not self.firing(), "nothing is wrong with it")
        return self.service

    def firing(self) -> set[str]:
        """The alerts that fire now."""
        found = self._prometheus.query(f'ALERTS{{alertstate="firing",{self._instance}}}')
        return {each["metric"]["alertname"] for each in found}

    def without_data(self, queries: Iterable[str]) -> list[str]:
        """Those of the dashboard's queries that return nothing of this service."""
        return [each for each in queries if not self._prometheus.query(self._chosen(each))]

    def _chosen(self, query: str) -> str:
        """With this service chosen, all of its workers, and a window in which a test has scraped often enough."""
        query = query.replace("$__rate_interval", "10s").replace('instance=~"$instance"', self._instance)
        return re.sub(r"\$\w+", ".*", query)

    def wait_for(self, *alerts: str, again: Callable[[], object] = lambda: None) -> None:
        """Wait until each of the alerts has fired, and do what makes them fire again and again meanwhile."""

        def fire() -> bool:
            again()
            self.seen |= self.firing() & set(alerts)
            return self.seen >= set(alerts)

        wait_until(fire, f"{alerts} fire")

    def wait_for_end(self, alert: str) -> None:
        """Wait until an alert does not fire any more."""
        wait_until(lambda: alert not in self.firing(), f"{alert} ends")


def said(service: Service, *command: str) -> str:
    """What a command of clusterctl prints."""
    done = service.clusterctl(*command)
    return done.stdout + done.stderr


def lose(service: Service, path: str) -> None:
    """Ask for what takes the worker away."""
    with pytest.raises(requests.RequestException):
        service.get(path)


@contextmanager
def asked(service: Service, *paths: str) -> Iterator[None]:
    """Ask for each path again and again, on connections of their own."""
    over = threading.Event()

    def ask(path: str) -> None:
        while not over.is_set():
            service.get(path)

    with ThreadPoolExecutor(len(paths)) as pool:
        under_way = [pool.submit(ask, path) for path in paths]
        try:
            yield
        finally:
            over.set()
        for each in under_way:
            each.result()

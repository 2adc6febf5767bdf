"""A real Prometheus, as Debian has it, beside a service."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.support.neighbours import needs, neighbour
from tests.support.ports import free_port
from tests.support.service import PATIENCE_SECONDS

CONFIGURATION = """
global: {{scrape_interval: {interval}, scrape_timeout: {interval}, evaluation_interval: 100ms}}
rule_files: [{rules}]
scrape_configs: [{{job_name: clusterd, static_configs: [{{targets: [{targets}]}}]}}]
"""


class Prometheus:
    """A Prometheus, by its HTTP API."""

    def __init__(self, port: int) -> None:
        self._address = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer. None while it does not answer."""
        with requests.Session() as session:
            session.trust_env = False
            try:
                answer = session.get(f"{self._address}{path}", params=parameters, timeout=PATIENCE_SECONDS)
            except requests.ConnectionError:
                return None
        return answer.json()["data"] if answer.ok else None

    def query(self, query: str) -> list[dict[str, Any]]:
        """What a query returns; nothing before it is ready."""
        answer = self.get("/api/v1/query", query=query)
        return list(answer["result"]) if answer else []

    def value(self, query: str) -> float | None:
        """The value of a query with one result; None if it has none."""
        found = self.query(query)
        return float(found[0]["value"][1]) if found else None

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {each["metric"]["alertname"] for each in self.query('ALERTS{alertstate="firing"}')}


@contextmanager
def prometheus(
    directory: Path, scraped: Sequence[int], rules: Sequence[Path] = (), interval: str = "100ms"
) -> Iterator[Prometheus]:
    """Scrape the ports, ten times a second, for the length of the block. Nobody needs to listen on them yet.

    A scrape that takes longer than the interval has failed.
    """
    needs("prometheus", "prometheus")
    configuration, port = directory / "prometheus.yml", free_port()
    named, targets = (
        ", ".join(f'"{each}"' for each in every) for every in (rules, map("127.0.0.1:{}".format, scraped))
    )
    configuration.write_text(CONFIGURATION.format(targets=targets, rules=named, interval=interval))
    command = ["prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={directory / 'data'}"]
    found = Prometheus(port)
    with neighbour(
        [*command, f"--web.listen-address=127.0.0.1:{port}"], lambda: len(found.query("up")) == len(scraped)
    ):
        yield found

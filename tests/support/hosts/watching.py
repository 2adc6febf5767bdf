"""A Prometheus at the switch of the laboratory, which finds the hosts by the file that Ansible has written."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.support.hosts.laboratory import Laboratory
from tests.support.hosts.network import Namespace
from tests.support.machines.asking import ask
from tests.support.neighbours import needs, neighbour
from tests.support.prometheus import Prometheus

TARGETS = "/etc/prometheus/hosts/clusterd.json"
"""Where the playbook writes, on the balancer's host."""

PORT = 9090
"""Where it answers, in the network of the clients."""

_CONFIGURATION = """
global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}
rule_files: [{rules}]
scrape_configs: [{{job_name: shop, file_sd_configs: [{{files: ["{targets}"], refresh_interval: 500ms}}]}}]
"""


class PrometheusAtTheSwitch(Prometheus):
    """One that is reached from the network of the clients alone."""

    def __init__(self, clients: Namespace) -> None:
        super().__init__(PORT)
        self._clients = clients

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer. None while it does not answer."""
        answer = ask(self._clients, f"http://127.0.0.1:{PORT}{path}?{urlencode(parameters)}")
        return json.loads(answer.text)["data"] if answer.status == 200 else None


@contextmanager
def watched(lab: Laboratory, directory: Path, rules: Sequence[Path]) -> Iterator[PrometheusAtTheSwitch]:
    """Scrape the hosts for the length of the block, with the rules that the package ships."""
    needs("prometheus", "prometheus")
    configuration = directory / "prometheus.yml"
    targets = lab.balancer.host.machine.root / TARGETS.lstrip("/")
    configuration.write_text(_CONFIGURATION.format(targets=targets, rules=", ".join(f'"{each}"' for each in rules)))
    program = ["prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={directory / 'data'}"]
    inside = ["nsenter", f"--net={lab.clients.path}", "--", *program, f"--web.listen-address=:{PORT}"]
    found = PrometheusAtTheSwitch(lab.clients)
    with neighbour(inside, lambda: bool(found.query("vector(1)"))):
        yield found

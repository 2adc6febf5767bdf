"""The instances' metrics as shipped: enabled as docs/metrics.md says, scraped by Debian's Prometheus."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.support.machines.asking import ask, ask_unix
from tests.support.machines.machine import Machine
from tests.support.neighbours import needs
from tests.support.service import wait_until

DOCUMENTATION = Path(__file__).parents[2] / "docs/metrics.md"
RELAY = "http://127.0.0.1:8002"
PROMETHEUS = "http://127.0.0.1:9090"


def start_instances(machine: Machine) -> None:
    """As examples/instances/README.md says, and each asked once: its socket starts it."""
    machine.run("sh", "-c", "cp /usr/share/clusterd/examples/instances/*.yaml /etc/clusterd/")
    machine.systemctl("enable", "--now", "clusterd@shop.socket", "clusterd@blog.socket")
    for name in ("shop", "blog"):
        assert ask_unix(machine, f"/run/clusterd-{name}.http.sock").status == 200


@contextmanager
def prometheus(machine: Machine, directory: Path) -> Iterator[None]:
    """A Prometheus on the machine, with the configuration of the documentation, only in more of a hurry."""
    needs("prometheus", "prometheus")
    (written,) = re.findall(r"```yaml\n(scrape_configs:.*?)```", DOCUMENTATION.read_text(), re.DOTALL)
    hurried = written.replace("/instances\n", "/instances\n        refresh_interval: 1s\n")
    config = directory / "prometheus.yml"
    config.write_text(f"global: {{scrape_interval: 1s}}\n{hurried}")
    subprocess.run(["promtool", "check", "config", config], check=True, capture_output=True)
    options = (f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}", "--log.level=error")
    process = machine.start_in_network("prometheus", *options, "--web.listen-address=127.0.0.1:9090")
    try:
        yield
    finally:
        process.kill()
        process.communicate()


def asked(machine: Machine, query: str) -> list[dict[str, Any]]:
    """The series that Prometheus answers with; none while it starts."""
    answer = ask(machine, f"{PROMETHEUS}/api/v1/query?query={quote(query)}")
    if answer.status != 200:
        return []
    series: list[dict[str, Any]] = json.loads(answer.text)["data"]["result"]
    return series


def up(machine: Machine) -> dict[str, str]:
    """Which instances Prometheus sees, and whether they are up."""
    series = asked(machine, 'up{job="clusterd-instances"}')
    return {each["metric"]["clusterd_instance"]: each["value"][1] for each in series}


def test_prometheus_finds_and_scrapes_the_service_and_every_instance(machine: Machine, tmp_path: Path) -> None:
    start_instances(machine)
    machine.systemctl("start", "clusterd")
    with prometheus(machine, tmp_path):
        wait_until(lambda: up(machine) == {"blog": "1", "shop": "1"}, "both instances are scraped")
        wait_until(lambda: asked(machine, 'up{job="clusterd"} == 1'), "the service is scraped")
        # What it scraped is what the instances say of themselves.
        wait_until(
            lambda: (
                {
                    (each["metric"]["clusterd_instance"], each["value"][1])
                    for each in asked(machine, "sum by (clusterd_instance) (clusterd_worker_up{clusterd_instance!=''})")
                }
                == {("blog", "1"), ("shop", "2")}
            ),
            "the workers of each",
        )
        machine.systemctl("stop", "clusterd@shop.socket", "clusterd@shop.service")
        wait_until(lambda: up(machine) == {"blog": "1", "shop": "0"}, "the stopped one is reported as down")


def test_the_pages_are_what_prometheus_accepts(machine: Machine) -> None:
    needs("promtool", "prometheus")
    start_instances(machine)
    page = ask(machine, f"{RELAY}/instances/shop/metrics")
    assert page.status == 200
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=page.text, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_a_host_without_instances_has_no_such_port_and_starting_one_opens_it(machine: Machine) -> None:
    assert machine.property("clusterd-instances.socket", "ActiveState") == "inactive"
    assert ask(machine, f"{RELAY}/instances").status == 0
    machine.run("sh", "-c", "cp /usr/share/clusterd/examples/instances/*.yaml /etc/clusterd/")
    machine.systemctl("start", "clusterd@blog.socket")
    listed = json.loads(ask(machine, f"{RELAY}/instances").text)
    assert [each["labels"]["clusterd_instance"] for each in listed] == ["blog", "shop"]
    # Never started, it is down, and that is said with where to look.
    answer = ask(machine, f"{RELAY}/instances/shop/metrics")
    assert (answer.status, "systemctl status clusterd@shop" in answer.text) == (502, True)
    assert machine.property("clusterd.service", "ActiveState") == "inactive"
    assert machine.systemctl("is-system-running").strip() == "running"


def test_an_instance_of_another_user_is_relayed_and_its_socket_closed_to_others(machine: Machine) -> None:
    machine.run("useradd", "--system", "shopkeeper")
    drop_in = "[Service]\nUser=shopkeeper\n"
    machine.write("/etc/systemd/system/clusterd@shop.service.d/override.conf", drop_in)
    machine.systemctl("daemon-reload")
    start_instances(machine)
    assert ask(machine, f"{RELAY}/instances/shop/readyz").status == 200
    path = "/run/clusterd-shop/metrics.sock"
    assert machine.run("runuser", "-u", "nobody", "--", "test", "-w", path, check=False).returncode != 0


def test_a_port_that_is_taken_stops_no_instance(machine: Machine) -> None:
    machine.write(
        "/etc/systemd/system/clusterd-instances.socket.d/o.conf", "[Socket]\nListenStream=\nListenStream=8000\n"
    )
    machine.systemctl("daemon-reload")
    start_instances(machine)
    assert machine.property("clusterd-instances.socket", "ActiveState") == "failed"

"""Starting and serving under systemd: scrapes, ports, instances, a killed worker."""

import re

from tests.support.machines.asking import ask, ask_unix
from tests.support.machines.deployment import configure, deploy, start
from tests.support.machines.machine import Machine

METRICS = "http://127.0.0.1:8001"


def test_a_scrape_counts_the_requests_of_each_worker(machine: Machine) -> None:
    start(machine)
    for _ in range(20):
        assert ask(machine).status == 200
    scrape = ask(machine, f"{METRICS}/metrics")
    assert scrape.status == 200
    pattern = r'^clusterd_http_requests_total\{(?=[^}]*code="2xx")[^}]*worker="(\d+)"[^}]*\} (\S+)$'
    counts = {worker: float(count) for worker, count in re.findall(pattern, scrape.text, re.MULTILINE)}
    assert set(counts) == {"1", "2"}
    assert sum(counts.values()) == 20


def test_the_probes_answer(machine: Machine) -> None:
    start(machine)
    assert ask(machine, f"{METRICS}/healthz").status == 200
    assert ask(machine, f"{METRICS}/readyz").status == 200


def test_the_status_line_says_how_many_workers_serve(machine: Machine) -> None:
    start(machine)
    assert "2" in machine.property("clusterd.service", "StatusText")


def test_a_killed_worker_is_replaced_and_the_journal_says_so(machine: Machine) -> None:
    start(machine)
    victim = ask(machine).text.split()[2]
    machine.run("sh", "-c", f"kill -KILL {victim}")
    line = machine.wait_for_journal(rf"\b{victim}\b.*KILL|KILL.*\b{victim}\b", "--unit=clusterd.service")
    assert "worker" in line
    answers = {ask(machine).text.split()[2] for _ in range(20)}
    assert victim not in answers
    scrape = ask(machine, f"{METRICS}/metrics").text
    assert re.search(r"^clusterd_worker_restarts_total\{[^}]*\} 1(\.0)?$", scrape, re.MULTILINE)
    assert machine.property("clusterd.service", "NRestarts") == "0"


def test_port_80_without_privileges(machine: Machine) -> None:
    start(machine)
    machine.write("/etc/systemd/system/clusterd.socket.d/port.conf", "[Socket]\nListenStream=\nListenStream=80\n")
    machine.systemctl("daemon-reload")
    # As clusterd(8) says: systemd restarts no socket while its service runs.
    machine.systemctl("stop", "clusterd.socket", "clusterd.service")
    machine.systemctl("start", "clusterd.socket", "clusterd.service")
    assert ask(machine, "http://127.0.0.1/").status == 200
    assert ask(machine, "http://[::1]/").status == 200
    assert ask(machine).status == 0
    main = machine.property("clusterd.service", "MainPID")
    assert re.search(r"^CapEff:\t0+$", machine.read(f"/proc/{main}/status"), re.MULTILINE)


def test_a_second_instance_shares_nothing_with_the_first(machine: Machine) -> None:
    start(machine)
    deploy(machine, "second")
    # As README says: nothing but the application, and nothing started but the socket.
    configure(machine, "app: application:app\ndirectory: /srv/app/releases/second\n", "second")
    machine.systemctl("enable", "--now", "clusterd@second.socket")
    assert ask_unix(machine, "/run/clusterd-second.http.sock").text.startswith("second ")
    assert ask_unix(machine, "/run/clusterd-second/metrics.sock", "/readyz").status == 200
    status = machine.run("clusterctl", "--config", "/etc/clusterd/second.yaml", "status").stdout
    assert "generation 1" in status
    assert "generation 1" in machine.run("clusterctl", "status").stdout
    assert ask(machine).text.startswith("one ")
    machine.systemctl("reload", "clusterd@second.service")
    assert ask_unix(machine, "/run/clusterd-second.http.sock").text.startswith("second 2 ")
    assert ask(machine).text.startswith("one 1 ")
    machine.systemctl("stop", "clusterd@second.socket", "clusterd@second.service")
    machine.systemctl("reload", "clusterd.service")
    assert ask(machine).text.startswith("second 2 ")


def test_an_instance_without_its_socket_unit_binds_its_own_address(machine: Machine) -> None:
    deploy(machine, "alone")
    addresses = 'listen: ["127.0.0.1:9000"]\nmetrics: "127.0.0.1:9001"\n'
    configure(machine, f"app: application:app\ndirectory: /srv/app/current\n{addresses}", "alone")
    machine.systemctl("start", "clusterd@alone.service")
    assert ask(machine, "http://127.0.0.1:9000/").text.startswith("alone ")

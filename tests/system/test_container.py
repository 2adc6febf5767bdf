"""The image of packaging/container, as docs/containers.md says that it should be run."""

import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from tests.support.control_groups import group_with_cpus
from tests.support.machines.container import Container, Image, image_on, running
from tests.support.ports import free_port
from tests.support.service import PATIENCE_SECONDS, wait_until

APPLICATION = """
import os, pathlib, time
print("imported by", os.getuid(), flush=True)
def app(environ, start_response):
    if environ["PATH_INFO"] == "/orphan" and os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.1)
        os._exit(0)
    while environ["PATH_INFO"] == "/slow" and not pathlib.Path("/srv/may-answer").exists():
        time.sleep(0.01)
    start_response("200 OK", [])
    return [b"answered"]
"""


@pytest.fixture(scope="module")
def image(suite_root: tuple[str, Path], package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    with image_on(suite_root[1], package, tmp_path_factory.mktemp("image")) as made:
        yield made


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """What is at /srv."""
    directory = tmp_path / "srv"
    directory.mkdir(mode=0o755)
    (directory / "app.py").write_text(APPLICATION)
    return directory


def get(port: int, path: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_SECONDS)


def is_ready(port: int) -> bool:
    try:
        return get(port, "/readyz").status_code == 200
    except requests.ConnectionError:
        return False


def status_of(container: Container) -> dict[str, int]:
    """What /proc says of PID 1: its user, its capabilities and so on."""
    text = Path(f"/proc/{container.pid}/status").read_text()
    return {name: int(value, 16 if name.startswith("Cap") else 10) for name, value in re.findall(r"(\w+):\t(\w+)", text)
            if name in ("Uid", "Gid", "CapEff", "CapBnd", "NoNewPrivs")}  # fmt: skip


def test_pid_1_of_a_container_serves_reaps_reloads_and_drains_on_its_stop_signal(
    image: Image, served: Path, clients: ExitStack
) -> None:
    port, metrics = free_port(), free_port()
    where = ("--listen", f"127.0.0.1:{port}", "--metrics", f"127.0.0.1:{metrics}")
    group = clients.enter_context(group_with_cpus(1))
    arguments = ("app:app", "--config", "/etc/clusterd/clusterd.yaml", "--directory", "/srv", *where)
    container = clients.enter_context(running(image, served, *arguments, group=group))
    wait_until(lambda: is_ready(metrics), "the container is ready")

    assert status_of(container) == {"Uid": 10001, "Gid": 10001, "CapEff": 0, "CapBnd": 0, "NoNewPrivs": 1}
    assert "Read-only file system" in container.execute("touch", "/etc/x", "/srv/x").stderr
    status = json.loads(container.execute("clusterctl", "status", "--json").stdout)
    assert status["pid"] == 1
    assert len(status["workers"]) == 1  # `workers: auto`, by the limit of the control group

    assert get(port, "/orphan").text == "answered"
    reaped = "clusterd_strays_reaped_total 1.0"
    wait_until(lambda: reaped in get(metrics, "/metrics").text, "the orphan is reaped and counted")
    assert container.execute("clusterctl", "reload").returncode == 0

    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(get(port, "/slow").text))
    asking.start()
    in_flight = re.compile(r"^clusterd_http_requests_in_flight\{[^}]*\} 1\.0$", re.MULTILINE)
    wait_until(lambda: in_flight.search(get(metrics, "/metrics").text), "the request is in flight")
    os.kill(container.pid, signal.Signals[image.stop_signal])
    wait_until(lambda: get(metrics, "/readyz").status_code == 503, "the probe says that it leaves")
    (served / "may-answer").touch()
    asking.join(PATIENCE_SECONDS)
    assert answers == ["answered"]
    assert container.wait() == 0

    records = [json.loads(line) for line in container.errors]
    assert records[-1]["message"] == "clusterd ends: asked to stop"
    assert container.output[0] == "imported by 10001\n"


def test_a_container_without_a_limit_has_a_worker_for_each_cpu_and_serves_the_example(
    image: Image, served: Path
) -> None:
    port, metrics = free_port(), free_port()
    with running(image, served, "--listen", f"127.0.0.1:{port}", "--metrics", f"127.0.0.1:{metrics}") as container:
        wait_until(lambda: is_ready(metrics), "the container is ready")
        status = json.loads(container.execute("clusterctl", "status", "--json").stdout)
        assert len(status["workers"]) == len(os.sched_getaffinity(0))
        assert "pid" in get(port, "/").text


@pytest.mark.parametrize(
    ("written", "exit_status", "said"),
    [
        ("workers: none of your business\n", 78, "workers"),
        ("app: nothing:app\ndirectory: /srv\n", 70, "No module named"),
    ],
)
def test_a_container_that_can_never_start_ends_and_its_exit_status_says_why(
    image: Image, served: Path, written: str, exit_status: int, said: str
) -> None:
    (served / "clusterd.yaml").write_text(written)
    where = ("--listen", f"127.0.0.1:{free_port()}", "--metrics", "off")
    with running(image, served, "--config", "/srv/clusterd.yaml", *where) as container:
        assert container.wait() == exit_status
        assert any(said in line for line in container.errors)

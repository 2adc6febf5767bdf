"""packaging/kubernetes: what its parts promise each other. That the API has these fields, its schemas say (docs)."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from clusterd.config.model import Config
from clusterd.config.reading.loader import load
from tests.support.machines.container import CONTAINERFILE, instructions, last_stage

pytestmark = pytest.mark.engine_independent

KUBERNETES = CONTAINERFILE.parents[1] / "kubernetes"


@pytest.fixture(scope="module")
def objects() -> dict[str, dict[str, Any]]:
    """The objects by kind: there is one of each."""
    texts = [(KUBERNETES / name).read_text() for name in ("clusterd.yaml", "podmonitor.yaml")]
    found = [document for text in texts for document in yaml.safe_load_all(text)]
    by_kind = {document["kind"]: document for document in found}
    assert len(by_kind) == len(found)
    return by_kind


@pytest.fixture
def config(objects: dict[str, dict[str, Any]], tmp_path: Path) -> Config:
    """The configuration in the ConfigMap, as clusterd reads it."""
    path = tmp_path / "clusterd.yaml"
    path.write_text(objects["ConfigMap"]["data"]["clusterd.yaml"].replace("/usr/share/clusterd", "."))
    (tmp_path / "examples/hello").mkdir(parents=True)
    return load(path, {})


def pod_of(objects: dict[str, dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    return pod, container


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def test_everything_selects_the_pods_of_the_deployment(objects: dict[str, dict[str, Any]]) -> None:
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert objects["Service"]["spec"]["selector"] == labels
    for kind in ("Deployment", "PodDisruptionBudget", "PodMonitor"):
        assert objects[kind]["spec"]["selector"]["matchLabels"] == labels


def test_ports_and_probes_are_those_of_the_configuration(objects: dict[str, dict[str, Any]], config: Config) -> None:
    _, container = pod_of(objects)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert [ports["http"]] == [port_of(str(address)) for address in config.listen]
    assert ports["metrics"] == port_of(str(config.metrics.address))
    probes = {name: container[name]["httpGet"] for name in ("readinessProbe", "livenessProbe")}
    assert {(name, probe["path"], probe["port"]) for name, probe in probes.items()} == {
        ("readinessProbe", "/readyz", "metrics"),
        ("livenessProbe", "/healthz", "metrics"),
    }
    assert objects["Service"]["spec"]["ports"][0]["targetPort"] in ports
    (scraped,) = objects["PodMonitor"]["spec"]["podMetricsEndpoints"]
    assert (scraped["port"] in ports, scraped["path"]) == (True, "/metrics")


def test_a_pod_is_not_killed_before_its_drain_is_over(objects: dict[str, dict[str, Any]], config: Config) -> None:
    pod, container = pod_of(objects)
    timeouts = config.timeouts
    assert timeouts.announce + timeouts.drain + 5 <= pod["terminationGracePeriodSeconds"]
    # Readiness is asked often enough to be known by then.
    probe = container["readinessProbe"]
    assert timeouts.announce >= probe["periodSeconds"] * probe["failureThreshold"]


def test_the_workers_follow_the_limits_and_fit_into_them(objects: dict[str, dict[str, Any]], config: Config) -> None:
    _, container = pod_of(objects)
    limits = container["resources"]["limits"]
    assert config.workers is None  # auto
    assert limits["memory"] == "512Mi"
    assert 0 < int(limits["cpu"]) * config.limits.max_memory <= 512 << 20


def test_a_pod_may_do_nothing_but_serve(objects: dict[str, dict[str, Any]]) -> None:
    pod, container = pod_of(objects)
    user = dict(last_stage_of_the_image())["USER"]
    security = pod["securityContext"]
    assert f"{security['runAsUser']}:{security['runAsGroup']}" == user
    assert security["runAsNonRoot"] and security["fsGroup"] == security["runAsGroup"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    written = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert written == {"/run/clusterd", "/tmp"}
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def last_stage_of_the_image() -> list[tuple[str, str]]:
    return [(each.name, each.text) for each in last_stage(instructions(CONTAINERFILE.read_text()))]


def test_the_image_has_what_its_configuration_and_the_documentation_name(config: Config) -> None:
    image = dict(last_stage_of_the_image())
    assert image["STOPSIGNAL"] == "SIGTERM"
    assert image["ENTRYPOINT"] == '["/usr/bin/clusterd"]'
    assert image["COPY"] == "packaging/container/clusterd.yaml /etc/clusterd/clusterd.yaml"
    own = load(CONTAINERFILE.with_name("clusterd.yaml"), {"directory": ("/",)})
    assert (own.listen, own.metrics, own.workers) == (config.listen, config.metrics, config.workers)
    assert image["EXPOSE"].split() == ["8000", "8001"]

"""The examples that need systemd, as their READMEs say, from where the package has put them."""

import json

from tests.support.machines.asking import ask, ask_unix
from tests.support.machines.machine import Machine
from tests.support.service import wait_until

EXAMPLES = "/usr/share/clusterd/examples"


def worker_pids(machine: Machine, name: str) -> set[int]:
    status = machine.run("clusterctl", "--config", f"/etc/clusterd/{name}.yaml", "--json", "status").stdout
    return {worker["pid"] for worker in json.loads(status)["workers"]}


def test_instances_serve_beside_each_other(machine: Machine) -> None:
    machine.run("sh", "-c", f"cp {EXAMPLES}/instances/*.yaml /etc/clusterd/")
    machine.systemctl("enable", "--now", "clusterd@blog.socket", "clusterd@shop.socket")
    assert ask_unix(machine, "/run/clusterd-blog.http.sock").text.startswith("the blog: instance blog, worker ")
    before = worker_pids(machine, "blog")
    assert ask_unix(machine, "/run/clusterd-shop.http.sock").text.startswith("the shop: instance shop, worker ")
    # Its workers answer before systemd has heard that they do, and until then a reload is no more than that start.
    wait_until(lambda: machine.property("clusterd@shop", "ActiveState") == "active", "the instance is active")
    machine.systemctl("reload", "clusterd@shop")
    assert worker_pids(machine, "blog") == before
    assert ask_unix(machine, "/run/clusterd-shop/metrics.sock", "/readyz").status == 200
    status = machine.run("clusterctl", "--config", "/etc/clusterd/shop.yaml", "status").stdout
    assert "Serving: 2 workers, generation 2" in status


def test_an_instance_may_be_left_to_the_proxy(machine: Machine) -> None:
    machine.run("sh", "-c", f"cp {EXAMPLES}/instances/*.yaml /etc/clusterd/")
    for_nginx = "[Socket]\nSocketGroup=www-data\nSocketMode=0660\n"
    machine.write("/etc/systemd/system/clusterd@shop.socket.d/override.conf", for_nginx)
    machine.systemctl("daemon-reload")
    machine.systemctl("enable", "--now", "clusterd@blog.socket", "clusterd@shop.socket")
    assert ask_unix(machine, "/run/clusterd-shop.http.sock").text.startswith("the shop: ")
    assert ask_unix(machine, "/run/clusterd-blog.http.sock").text.startswith("the blog: ")
    assert may_connect(machine, "www-data", "/run/clusterd-shop.http.sock")
    assert may_connect(machine, "nobody", "/run/clusterd-blog.http.sock")
    assert not may_connect(machine, "nobody", "/run/clusterd-shop.http.sock")
    assert not may_connect(machine, "nobody", "/run/clusterd-shop/metrics.sock")


def may_connect(machine: Machine, user: str, path: str) -> bool:
    """Whether a user may connect to a unix socket, for which the kernel wants that it could be written."""
    return machine.run("runuser", "-u", user, "--", "test", "-w", path, check=False).returncode == 0


def test_a_deploy_by_a_link(machine: Machine) -> None:
    example = "/root/symlink_deploy"
    deploy = (f"{example}/deploy", f"{example}/shop", "/srv/shop", "/etc/clusterd/clusterd.yaml")
    machine.run("cp", "-R", f"{EXAMPLES}/symlink_deploy", "/root/")
    machine.run("cp", f"{example}/clusterd.yaml", "/etc/clusterd/clusterd.yaml")
    machine.run(*deploy)
    machine.systemctl("restart", "clusterd")
    assert ask(machine).text.startswith("version one, generation 1")
    machine.run("sed", "-i", 's/"one"/"two"/', f"{example}/shop/shop.py")
    machine.run(*deploy)
    assert ask(machine).text.startswith("version two, generation 2")

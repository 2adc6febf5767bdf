"""HTTPS in the packaged service: the socket unit, a key that only root can read, and a new certificate."""

from pathlib import Path

from tests.support.certificates import Certificate, make_certificate
from tests.support.machines.asking import ask, ask_securely
from tests.support.machines.deployment import CONFIG, configure, deploy
from tests.support.machines.machine import Machine

PORT = 8443
CREDENTIALS = "".join(f"LoadCredential={kind}.pem:/root/{kind}.pem\n" for kind in ("certificate", "key"))


def put(machine: Machine, certificate: Certificate, directory: str) -> None:
    for kind, path in (("certificate", certificate.certificate), ("key", certificate.key)):
        machine.write(f"{directory}/{kind}.pem", path.read_text())


def choose_port(machine: Machine) -> None:
    drop_in = f"[Socket]\nListenStream=\nListenStream={PORT}\n"
    machine.write("/etc/systemd/system/clusterd-https.socket.d/port.conf", drop_in)
    machine.systemctl("daemon-reload")


def listen(machine: Machine) -> None:
    choose_port(machine)
    machine.systemctl("start", "clusterd-https.socket")


def test_a_reload_takes_up_a_new_certificate(machine: Machine, tmp_path: Path) -> None:
    first, second = make_certificate(tmp_path / "first"), make_certificate(tmp_path / "second")
    assert machine.property("clusterd-https.socket", "UnitFileState") == "disabled"
    put(machine, first, "/etc/clusterd/tls")
    deploy(machine, "one")
    configure(machine, CONFIG + "tls: {certificate: tls/certificate.pem, key: tls/key.pem}\n")
    listen(machine)
    machine.systemctl("start", "clusterd.service")
    assert ask_securely(machine, PORT, first).status == 200
    put(machine, second, "/etc/clusterd/tls")
    machine.systemctl("reload", "clusterd.service")
    assert ask_securely(machine, PORT, second).status == 200
    assert ask_securely(machine, PORT, first).status == 0


def test_a_key_that_only_root_can_read_is_a_credential(machine: Machine, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    put(machine, certificate, "/root")
    for kind in ("certificate", "key"):
        machine.run("chmod", "0600", f"/root/{kind}.pem")
    machine.write("/etc/systemd/system/clusterd.service.d/tls.conf", f"[Service]\n{CREDENTIALS}")
    deploy(machine, "one")
    configure(machine, CONFIG + 'tls: {certificate: "credential:certificate.pem", key: "credential:key.pem"}\n')
    listen(machine)
    machine.systemctl("start", "clusterd.service")
    assert ask_securely(machine, PORT, certificate).status == 200


def test_https_alone_is_started_and_stopped_as_documented(machine: Machine, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    put(machine, certificate, "/etc/clusterd/tls")
    deploy(machine, "one")
    configure(machine, CONFIG + "listen: []\ntls: {certificate: tls/certificate.pem, key: tls/key.pem}\n")
    choose_port(machine)
    machine.systemctl("start", "clusterd.service")
    machine.systemctl("enable", "clusterd-https.socket")
    machine.systemctl("restart", "clusterd.service")
    assert ask_securely(machine, PORT, certificate).status == 200
    assert ask(machine).status == 200
    machine.systemctl("stop", "clusterd.socket", "clusterd.service")
    assert machine.property("clusterd-https.socket", "ActiveState") == "inactive"
    # In one step, as for a changed port, everything is there again.
    machine.systemctl("start", "clusterd.socket", "clusterd.service")
    assert ask_securely(machine, PORT, certificate).status == 200
    machine.systemctl("stop", "clusterd.socket", "clusterd.service")
    machine.systemctl("mask", "clusterd.socket")
    for _ in range(2):
        machine.systemctl("start", "clusterd.service")
        assert ask_securely(machine, PORT, certificate).status == 200
        assert ask(machine).status == 0
        assert ask(machine, "http://127.0.0.1:8001/readyz").status == 200
        machine.systemctl("stop", "clusterd.socket", "clusterd.service")
        for socket in ("clusterd-https.socket", "clusterd-metrics.socket"):
            assert machine.property(socket, "ActiveState") == "inactive"

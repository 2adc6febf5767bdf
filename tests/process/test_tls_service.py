"""HTTPS of a whole service: certificates that change, and connections that cannot move."""

import os
import shutil
import socket
import ssl
import stat
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from clusterd.app.errors import LoadError
from tests.support.certificates import NAME, Certificate, make_certificate
from tests.support.checking import check
from tests.support.ports import free_port
from tests.support.service import PATIENCE_SECONDS, Service, wait_until
from tests.support.serving import PATIENCE, Client

MakeService = Callable[..., Service]


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path / "first")


def secure(port: int, certificate: Certificate, context: ssl.SSLContext | None = None) -> Client:
    sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
    context = context or certificate.client()
    return Client(context.wrap_socket(sock, server_hostname=NAME, suppress_ragged_eofs=False))


def with_tls(make_service: MakeService, certificate: Certificate, **settings: Any) -> tuple[Service, int]:
    port = free_port()
    tls = {"listen": [f"127.0.0.1:{port}"], "certificate": str(certificate.certificate), "key": str(certificate.key)}
    return make_service(tls=tls, **settings), port


def test_a_reload_takes_up_a_new_certificate_and_a_bad_one_changes_nothing(
    make_service: MakeService, certificate: Certificate, tmp_path: Path
) -> None:
    service, port = with_tls(make_service, certificate)
    service.start()
    with secure(port, certificate) as one:
        assert one.get().status == 200
    assert service.get().status_code == 200
    other = make_certificate(tmp_path / "second")

    shutil.copy(other.certificate, certificate.certificate)
    failed = service.reload()
    assert failed.returncode == 1
    assert f"tls.key: {certificate.key} is not the key of the certificate in {certificate.certificate}" in failed.stderr
    # With the old key beside the new certificate on disk, every worker serves the old pair, one that is new too.
    victim = service.workers()[0]["pid"]
    os.kill(victim, 9)
    wait_until(lambda: len([w for w in service.workers() if w["pid"] != victim]) == 2, "a worker in its place")
    for _ in range(6):
        with secure(port, certificate) as one:
            assert one.get().status == 200

    shutil.copy(other.key, certificate.key)
    assert service.reload().returncode == 0
    for _ in range(6):
        with secure(port, other) as one:
            assert one.get().status == 200
    with pytest.raises(ssl.SSLCertVerificationError):
        secure(port, certificate)
    assert service.stop() == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "tls.certificate: there is no certificate in PEM in"),
        ("CERTIFICATE", "tls.key: there is no private key in PEM in"),
        ("ENCRYPTED", "is encrypted; clusterd needs a key without a passphrase"),
    ],
)
def test_a_start_with_a_bad_certificate_says_what_is_wrong(
    make_service: MakeService, certificate: Certificate, content: str, says: str
) -> None:
    path = certificate.combined
    if content == "CERTIFICATE":
        shutil.copy(certificate.certificate, path)
    elif content == "ENCRYPTED":
        key = serialization.load_pem_private_key(certificate.key.read_bytes(), None)
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        encrypted = key.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"secret"))
        path.write_bytes(certificate.certificate.read_bytes() + encrypted)
    else:
        path.write_text(content)
    service = make_service(tls={"listen": [f"127.0.0.1:{free_port()}"], "certificate": str(path)})
    service.start(wait=False)
    assert service.wait() == 70
    assert says in service.log()
    checked = check(service)
    assert checked.returncode == 78
    assert checked.stderr.startswith("tls.")
    assert says in checked.stderr


def test_a_file_that_vanishes_while_it_is_read_is_named(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate.combined.unlink()
    # There when it is looked for, and replaced before OpenSSL opens it: install(1) unlinks first.
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"")
    with pytest.raises(LoadError, match=f"tls.certificate: {certificate.combined} .* cannot be read: No such file"):
        certificate.server()


# ---- connections that cannot move


class Load(threading.Thread):
    """A client that keeps its connection until it is told that it ends, and counts what went wrong."""

    def __init__(self, port: int, certificate: Certificate, over: threading.Event) -> None:
        super().__init__()
        self._port, self._certificate, self._over = port, certificate, over
        self.answered = 0
        self.connections = 0
        self.failures: list[str] = []

    def run(self) -> None:
        while not self._over.is_set():
            self.connections += 1
            try:
                with secure(self._port, self._certificate) as one:
                    while one.get().fields.get("connection") != "close" and not self._over.is_set():
                        self.answered += 1
            except Exception as error:
                self.failures.append(repr(error))
                return


@pytest.mark.parametrize("scheduling", ["least_connections", "round_robin"])
def test_reloads_under_load_lose_no_request_over_tls(
    make_service: MakeService, certificate: Certificate, scheduling: str
) -> None:
    service, port = with_tls(make_service, certificate, scheduling=scheduling)
    service.start()
    over = threading.Event()
    clients = [Load(port, certificate, over) for _ in range(6)]

    def answered(least: int) -> bool:
        return sum(each.answered for each in clients) >= least

    for each in clients:
        each.start()
    try:
        for number in range(1, 4):
            wait_until(partial(answered, number * 100), "requests")
            assert service.reload().returncode == 0
    finally:
        over.set()
        for each in clients:
            each.join(PATIENCE_SECONDS)
    assert [each.failures for each in clients] == [[]] * 6
    assert sum(each.connections for each in clients) >= 6 * 2, "they stayed with workers that had gone"


def test_idle_connections_end_with_a_goodbye_after_drain_idle(
    make_service: MakeService, certificate: Certificate
) -> None:
    service, port = with_tls(make_service, certificate, timeouts={"drain_idle": "1s"})
    service.start()
    with secure(port, certificate) as idle, secure(port, certificate) as busy:
        assert idle.get().status == busy.get().status == 200
        started = time.monotonic()
        assert service.reload().returncode == 0
        assert busy.get().fields["connection"] == "close"
        assert busy.rest() == b""
        assert idle.rest() == b""  # without a close_notify, reading raises
        assert time.monotonic() - started > 0.9
    wait_until(lambda: not service.workers("draining"), "the old workers' end")
    assert "cut" not in service.log()


def test_a_connection_that_has_sent_nothing_moves(make_service: MakeService, certificate: Certificate) -> None:
    service, port = with_tls(make_service, certificate, workers=1)
    service.start()
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as silent:
        wait_until(lambda: service.describe()["workers"][0]["connections"] == 1, "the connection")  # type: ignore[index]
        assert service.reload().returncode == 0
        wait_until(lambda: not service.workers("draining"), "the old worker's end")
        with Client(certificate.client().wrap_socket(silent, server_hostname=NAME)) as one:
            assert one.get().body.split()[2] == b"2"


def test_sessions_are_resumed_with_any_worker(make_service: MakeService, certificate: Certificate) -> None:
    service, port = with_tls(make_service, certificate)
    service.start()
    context = certificate.client()
    with secure(port, certificate, context) as one:
        pids = {one.get().body.split()[0]}
        assert isinstance(one.socket, ssl.SSLSocket)
        session = one.socket.session
    while len(pids) < 2:
        sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
        wrapped = context.wrap_socket(sock, server_hostname=NAME, session=session)
        assert wrapped.session_reused
        with Client(wrapped) as again:
            pids.add(again.get().body.split()[0])


# ---- where sockets and certificates come from

ACTIVATE = """
import os, socket, sys
sock = socket.create_server(("127.0.0.1", int(sys.argv[1])))
os.dup2(os.dup(sock.fileno()), 3, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="https")
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_systemd_passes_the_socket_and_the_credentials(
    make_service: MakeService, certificate: Certificate, tmp_path: Path
) -> None:
    port = free_port()
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    shutil.copy(certificate.combined, credentials / "shop.pem")
    service = make_service(listen=[], tls={"certificate": "credential:shop.pem"})
    service.inside = (sys.executable, "-c", ACTIVATE, str(port))
    service.environment["CREDENTIALS_DIRECTORY"] = str(credentials)
    service.start()
    with secure(port, certificate) as one:
        assert one.get().status == 200
    assert "tls.listen: 127.0.0.1" in service.log() and "(passed by systemd)" in service.log()
    assert service.reload().returncode == 0
    service.wait_for_line("a reload does not renew systemd's credentials")
    service.configure(tls={"certificate": None})
    failed = service.reload()
    assert failed.returncode == 1
    assert "tls.certificate: there is a socket for HTTPS, but no certificate is set" in failed.stderr
    with secure(port, certificate) as one:
        assert one.get().status == 200


def test_a_socket_for_https_needs_a_certificate(make_service: MakeService) -> None:
    service = make_service(listen=[])
    service.inside = (sys.executable, "-c", ACTIVATE, str(free_port()))
    service.start(wait=False)
    assert service.wait() == 75
    assert "tls.certificate: systemd passes a socket named https, and there is no certificate" in service.log()


def test_a_credential_that_is_not_passed_is_named(make_service: MakeService) -> None:
    service = make_service(tls={"certificate": "credential:shop.pem"})
    failed = check(service)
    assert failed.returncode == 78
    assert "LoadCredential=shop.pem:/path in the unit passes it" in failed.stderr


def test_nothing_to_listen_on_is_an_error(make_service: MakeService) -> None:
    service = make_service(listen=[])
    service.start(wait=False)
    assert service.wait() == 75
    assert "there is nothing to listen on" in service.log()


# ---- Unix sockets


def test_unix_sockets_have_the_owner_and_mode_that_are_asked_for(make_service: MakeService, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    access = {"mode": "0640", "owner": "daemon", "group": "daemon"}
    service = make_service(listen=[f"unix:{path}"], unix_sockets=access)
    service.start()
    status = path.stat()
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert (path.owner(), path.group()) == ("daemon", "daemon")
    assert stat.S_IMODE(service.control.stat().st_mode) == 0o660


@pytest.mark.parametrize(("key", "what"), [("owner", "user"), ("group", "group")])
def test_an_owner_that_is_not_there_is_named(make_service: MakeService, tmp_path: Path, key: str, what: str) -> None:
    service = make_service(listen=[f"unix:{tmp_path}/http.sock"], unix_sockets={key: "nobody-of-that-name"})
    service.start(wait=False)
    assert service.wait() == 78
    assert f"unix_sockets.{key}: there is no {what} 'nobody-of-that-name' on this machine" in service.log()
    assert not (tmp_path / "http.sock").exists()

"""The addresses of `listen:` and `metrics:`, bound by clusterd itself."""

import http.client
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.service import Service

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]


def free_ipv6_port() -> int:
    with socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        port: int = sock.getsockname()[1]
        return port


def get(sock: socket.socket, target: str = "/") -> str:
    """The body of the answer to one request on a connected socket."""
    connection = http.client.HTTPConnection("test", timeout=30)
    connection.sock = sock
    connection.request("GET", target, headers={"Connection": "close"})
    with connection.getresponse() as response:
        assert response.status == 200
        return response.read().decode()


def get_unix(path: Path, target: str = "/") -> str:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        return get(sock, target)


def test_every_address_serves_before_and_after_a_reload(make_service: MakeService, tmp_path: Path) -> None:
    four, six, path, pages = free_port(), free_ipv6_port(), tmp_path / "http.sock", tmp_path / "metrics.sock"
    listen = [f"127.0.0.1:{four}", f"[::1]:{six}", f"unix:{path}"]
    service = make_service(listen=listen, metrics=f"unix:{pages}").start()
    for generation in "12":
        answers = [
            get(socket.create_connection(("127.0.0.1", four), timeout=30)),
            get(socket.create_connection(("::1", six), timeout=30)),
            get_unix(path),
        ]
        assert [answer.split()[2] for answer in answers] == [generation] * 3
        assert f'clusterd_worker_generation{{worker="1"}} {generation}' in get_unix(pages, "/metrics")
        assert service.reload().returncode == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert stat.S_IMODE(service.control.stat().st_mode) == 0o660
    assert service.stop() == 0
    assert not any(each.exists() for each in (path, pages, service.control))


def test_what_a_killed_master_left_is_taken_over_and_what_is_in_use_is_not(
    make_service: MakeService, tmp_path: Path
) -> None:
    path = tmp_path / "http.sock"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    first = make_service(listen=[f"unix:{path}"]).start()
    assert get_unix(path)
    with_another = make_service(listen=[f"unix:{tmp_path}/other.sock", f"unix:{path}"]).start(wait=False)
    assert with_another.wait() == 75
    assert f"cannot listen on unix:{path}: the address is in use by another process" in with_another.log()
    assert "Traceback" not in with_another.log()
    assert os.listdir(tmp_path).count("other.sock") == 0
    assert get_unix(path)
    assert first.stop() == 0


def test_a_mistyped_control_socket_makes_no_directories(make_service: MakeService, tmp_path: Path) -> None:
    service = make_service(control=str(tmp_path / "no/such/control.sock")).start(wait=False)
    assert service.wait() == 75
    assert f"control: cannot make {tmp_path}/no/such: No such file or directory" in service.log()
    assert not (tmp_path / "no").exists()

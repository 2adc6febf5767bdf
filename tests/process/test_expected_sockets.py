"""Under systemd a service takes the place of no socket unit that has passed nothing; an instance keeps `listen`."""

import dataclasses
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clusterd.config.reading.loader import load
from clusterd.config.settings.schema import BY_KEY
from clusterd.linux.listening import refuse_new
from clusterd.master.sockets.binding import ListenError
from clusterd.master.sockets.listeners import Listeners, open_listeners
from clusterd.systemd.expected import Expected, expected_sockets
from clusterd.systemd.sockets import PassedSocket, Role
from tests.process.test_adversity import refuses
from tests.support.passed import pass_to
from tests.support.service import Service

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]

TEMPORARY_FAILURE = 75


def expecting(service: Service, units: str, *, instance: bool = False) -> Service:
    """As the unit of a service, or of an instance, has it."""
    service.environment["CLUSTERD_SOCKETS"] = units
    if instance:
        service.environment |= {"CLUSTERD_INSTANCE": "shop", "RUNTIME_DIRECTORY": str(service.directory)}
    return service


def test_nothing_is_bound_in_the_place_of_a_socket_unit(make_service: MakeService) -> None:
    service = expecting(make_service(), "http=web.socket metrics=web-metrics.socket").start(wait=False)
    assert service.wait() == TEMPORARY_FAILURE
    assert "listen: web.socket has passed no socket" in service.log()
    assert "systemctl status web.socket" in service.log()
    assert refuses(service.port)


def test_nor_for_metrics_unless_they_are_off(make_service: MakeService) -> None:
    service = expecting(make_service(), "metrics=web-metrics.socket").start(wait=False)
    assert service.wait() == TEMPORARY_FAILURE
    assert "metrics.address: web-metrics.socket has passed no socket" in service.log()
    service.configure(metrics="off")
    service.start()
    assert service.get().status_code == 200
    assert service.stop() == 0


def test_an_instance_has_no_default_address(make_service: MakeService) -> None:
    service = expecting(make_service(listen=None), "http=clusterd@shop.socket", instance=True).start(wait=False)
    assert service.wait() == TEMPORARY_FAILURE
    assert "systemctl status clusterd@shop.socket" in service.log()


def test_an_instance_keeps_the_addresses_of_its_file(make_service: MakeService) -> None:
    """Without its socket unit, and beside it."""
    service = expecting(make_service(), "http=clusterd@shop.socket", instance=True).start()
    assert service.get().status_code == 200
    assert service.stop() == 0
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pass_to(service, listener)
        service.start()
        assert service.get().status_code == 200
        service.port = listener.getsockname()[1]
        assert service.get().status_code == 200
        assert service.stop() == 0


# ---- what is opened


@contextmanager
def opened(directory: Path, text: str, sockets: list[socket.socket], expected: Expected) -> Iterator[Listeners]:
    """What an instance listens on, with sockets named http that systemd has passed."""
    path = directory / "clusterd.yaml"
    path.write_text(f"app: app:app\nmetrics: 'off'\n{text}")
    config = load(path, defaults={"listen": ""})
    passed = [PassedSocket(Role.HTTP, each.dup()) for each in sockets]
    try:
        listeners = open_listeners(config, passed, directory / "control.sock", expected)
    except ListenError:
        for each in passed:
            each.socket.close()
        raise
    try:
        yield listeners
    finally:
        listeners.close()


INSTANCE = Expected({Role.HTTP: "clusterd@shop.socket"}, is_instance=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_an_address_that_the_socket_unit_has_is_not_bound_again(tmp_path: Path, host: str) -> None:
    with socket.create_server((host, 0)) as sock:
        text = f"listen: ['127.0.0.1:{sock.getsockname()[1]}']\n"
        with opened(tmp_path, text, [sock], INSTANCE) as listeners:
            assert [each.fileno() for each in listeners.bound] == []
            assert len(listeners.http) == 1


def test_an_address_in_use_is_an_error_unless_it_is_the_one_of_the_file_that_came_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as used, socket.create_server(("127.0.0.1", 0)) as sock:
        address = f"127.0.0.1:{used.getsockname()[1]}"
        text = f"listen: ['{address}']\n"
        with pytest.raises(ListenError, match=address), opened(tmp_path, text, [sock], INSTANCE):
            pass
        (tmp_path / "control.sock").unlink(missing_ok=True)
        monkeypatch.setitem(BY_KEY, "listen", dataclasses.replace(BY_KEY["listen"], default=address))
        with opened(tmp_path, text, [sock], INSTANCE) as listeners:
            assert len(listeners.http) == 1
            assert address in listeners.notes[0]


def test_a_socket_that_refuses_clients_for_good_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        refuse_new(sock)
        with pytest.raises(ListenError, match="stop its socket unit"), opened(tmp_path, "", [sock], INSTANCE):
            pass


def test_an_instance_that_runs_a_function_ignores_what_its_socket_unit_passes(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        path = tmp_path / "clusterd.yaml"
        path.write_text("run: app:main\nmetrics: 'off'\n")
        passed = [PassedSocket(Role.HTTP, sock.dup())]
        listeners = open_listeners(load(path), passed, tmp_path / "control.sock", INSTANCE)
        try:
            assert listeners.public == ()
            assert "systemctl mask --now clusterd@shop.socket" in listeners.notes[0]
        finally:
            listeners.close()


# ---- what a unit says


def test_a_unit_names_its_socket_units_by_role() -> None:
    environ = {"CLUSTERD_SOCKETS": "http=a.socket metrics=b.socket unknown=c.socket nonsense"}
    assert expected_sockets(environ).units == {Role.HTTP: "a.socket", Role.METRICS: "b.socket"}
    assert expected_sockets(environ, lambda unit: unit == "a.socket").units == {Role.METRICS: "b.socket"}
    assert expected_sockets({}) == Expected()
    assert expected_sockets({"CLUSTERD_SOCKETS": "", "CLUSTERD_INSTANCE": "shop"}) == Expected({}, is_instance=True)

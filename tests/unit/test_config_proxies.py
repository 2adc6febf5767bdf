from pathlib import Path

import pytest

from clusterd.config.model import Switch
from clusterd.http.settings import Interface
from clusterd.worker.engine_settings import engine_settings
from tests.support.configurations import complaint, read


def test_by_default_nobody_is_trusted_and_the_server_is_named(tmp_path: Path) -> None:
    config = read(tmp_path, "app: a:b\n")
    assert (config.trusted_proxies, config.proxy_protocol, config.server_header) == ((), Switch.OFF, Switch.ON)
    assert read(tmp_path, "app: a:b\ntrusted_proxies: []\n") == config


def test_addresses_and_networks_are_read_from_file_and_flags(tmp_path: Path) -> None:
    text = 'app: a:b\ntrusted_proxies: [127.0.0.1, 10.0.0.0/8, "::1", "FD00::/8", 192.0.2.1/32, unix]\n'
    trusted = ("127.0.0.1", "10.0.0.0/8", "::1", "fd00::/8", "192.0.2.1", "unix")
    assert read(tmp_path, text).trusted_proxies == trusted
    assert read(tmp_path, text, trusted_proxies="unix").trusted_proxies == ("unix",)


def test_the_engine_is_told(tmp_path: Path) -> None:
    config = read(tmp_path, "app: a:b\ntrusted_proxies: [unix]\nproxy_protocol: on\nserver_header: off\n")
    settings = engine_settings(config, Interface.WSGI)
    assert (settings.trusted_proxies, settings.proxy_protocol, settings.server_header) == (("unix",), True, False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trusted_proxies: 10.0.0.0/8", "1:18: trusted_proxies: found '10.0.0.0/8', must be a list, each item"),
        (
            "trusted_proxies:\n  - unix\n  - 10.0.0.1/8",
            "3:5: trusted_proxies[1]: found '10.0.0.1/8', must be an address",
        ),
        ("trusted_proxies: [10.0.0.1/8]", "(write 10.0.0.0/8)"),
        ("trusted_proxies: [10.0.0.0/255.0.0.0]", "(write 10.0.0.0/8)"),
        ("trusted_proxies: [010.0.0.1]", "must be an address, a network like 10.0.0.0/8, or unix"),
        ("trusted_proxies: [localhost]", "(names are not looked up: write the address)"),
        ('trusted_proxies: ["*"]', "(write 0.0.0.0/0 and ::/0 for every peer)"),
        ('trusted_proxies: ["unix:/run/x"]', "(write unix, which stands for every peer on a Unix socket)"),
        ('trusted_proxies: ["::ffff:10.0.0.1"]', "(write it as IPv4)"),
        ('trusted_proxies: ["fe80::1%eth0"]', "must be an address"),
        ("trusted_proxies: [10]", "found 10, must be an address"),
        ("trusted_proxies: [10.0.0.1:80]", "must be an address"),
        ("proxy_protocol: true", "1:17: proxy_protocol: found true, must be off or on"),
        ("proxy_protocol: on", "1:17: proxy_protocol: on, but trusted_proxies is empty, so no client could connect"),
        ("server_header: nginx", "1:16: server_header: found 'nginx', must be off or on"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in complaint(tmp_path, f"{text}\napp: a:b\n")

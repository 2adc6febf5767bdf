import dataclasses
import json

import pytest

from clusterd.config.model import (
    AccessLog,
    Address,
    Config,
    Debug,
    HealthCheck,
    Interface,
    Limits,
    Log,
    LogLevel,
    Preload,
    Restarts,
    Rollout,
    Scheduling,
    Switch,
    TcpAddress,
    Timeouts,
    Tls,
    TlsVersion,
    UnixAddress,
    UnixSockets,
    from_json,
    to_json,
)

CONFIG = Config(
    app="shop:app",
    run=None,
    interface=Interface.WSGI,
    directory="/srv/shop/current",
    python="/srv/shop/venv/bin/python",
    environment={"KEY": "value"},
    root_path="/shop",
    preload=Preload.ALWAYS,
    worker_start="shop:start",
    worker_stop=None,
    hooks=None,
    listen=(TcpAddress("::1", 8000), UnixAddress("/run/shop.sock")),
    tls=Tls((TcpAddress("::1", 8443),), "/etc/shop.pem", "credential:key", TlsVersion.TLS_1_3),
    unix_sockets=UnixSockets(0o660, None, "www-data"),
    trusted_proxies=("10.0.0.0/8", "unix"),
    proxy_protocol=Switch.ON,
    server_header=Switch.OFF,
    metrics=TcpAddress("127.0.0.1", 8001),
    control=None,
    workers=None,
    threads=0,
    scheduling=Scheduling.SHARED,
    rollout=Rollout(1, 60.0, 0.5, 4, HealthCheck("/health", "localhost", "2xx", 5.0)),
    restarts=Restarts(20, 10.0),
    timeouts=Timeouts(30.0, 10.0, 30.0, 10.0, None, 30.0, 75.0, 10.0, 30.0, 30.0),
    limits=Limits(10000, 100, 8192, 32768, 100, 1 << 24, 0, 0),
    log=Log(LogLevel.NOTICE, AccessLog.ALL),
    debug=Debug(5678, "127.0.0.1"),
)


def test_a_configuration_survives_the_channel() -> None:
    document = json.loads(json.dumps(to_json(CONFIG)))
    assert "environment" not in document
    survived = from_json(document, {"KEY": "value"})
    assert survived == CONFIG
    # An enumeration of texts is equal to its text, and not the same.
    before, after = (dataclasses.replace(each, environment={}) for each in (CONFIG, survived))
    assert repr(after) == repr(before)


def test_absent_parts_survive_the_channel() -> None:
    rollout = dataclasses.replace(CONFIG.rollout, health_check=None)
    bare = dataclasses.replace(CONFIG, metrics=None, rollout=rollout, environment={}, workers=3)
    assert from_json(json.loads(json.dumps(to_json(bare)))) == bare


def test_a_document_of_another_version_is_refused() -> None:
    with pytest.raises(TypeError):
        from_json({**to_json(CONFIG), "colour": "red"})


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000", TcpAddress("127.0.0.1", 8000)),
        ("localhost:0", TcpAddress("localhost", 0)),
        ("[::1]:443", TcpAddress("::1", 443)),
        ("[fe80::1%eth0]:80", TcpAddress("fe80::1%eth0", 80)),
        ("my-host.example.org:65535", TcpAddress("my-host.example.org", 65535)),
        ("unix:/run/a b/http.sock", UnixAddress("/run/a b/http.sock")),
        ("unix:relative.sock", UnixAddress("relative.sock")),
    ],
)
def test_addresses_are_read_and_written_alike(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "a port is missing"),
        ("8000", "a host is missing: 127.0.0.1:8000"),
        (":8000", r"0\.0\.0\.0:8000"),
        ("*:8000", r"\[::\]:8000"),
        ("localhost", "a port is missing: localhost:8000"),
        ("localhost:", "the port is ''"),
        ("localhost:http", "the port is 'http'"),
        ("localhost:65536", "from 0 to 65535"),
        ("localhost:-1", "from 0 to 65535"),
        ("localhost:\u0661", "from 0 to 65535"),
        ("::1:8000", r"needs brackets: \[::1\]:8000"),
        ("[::g]:8000", "not an IPv6 address"),
        ("300.1.1.1:80", "not an IPv4 address"),
        ("1:80", "not an IPv4 address"),
        ("http://localhost:80", "without the scheme: localhost:80"),
        ("a b:80", "not a host name"),
        ("unix:", "a file name is missing"),
        ("unix:/run/", "a file name is missing"),
        ("unix:@name", "abstract"),
        ("unix:/" + "x" * 107, "108 bytes long, and the system allows 107"),
    ],
)
def test_a_bad_address_says_what_to_write(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Address.parse(text)


@pytest.mark.parametrize(("expect", "passing", "failing"), [("2xx", 204, 301), ("200", 200, 204)])
def test_a_health_check_accepts_a_status_or_a_class(expect: str, passing: int, failing: int) -> None:
    check = HealthCheck("/", "localhost", expect, 1.0)
    assert check.accepts(passing)
    assert not check.accepts(failing)

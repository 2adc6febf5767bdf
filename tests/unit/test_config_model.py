import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterd.config.model import (
    Address,
    Config,
    HealthCheck,
    TcpAddress,
    UnixAddress,
    from_json,
    to_json,
)
from tests.support.configurations import everything
from tests.support.settings import DEFAULT


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return everything(tmp_path)


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a document, with its key."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(item, f"{key}.{name}" if key else name)
    else:
        yield key, value


def test_everything_in_this_configuration_is_not_as_by_default(config: Config) -> None:
    """What is as by default would survive the channel without being in what is sent."""
    default = dict(leaves(to_json(DEFAULT)))
    same = {key for key, value in leaves(to_json(config)) if default.get(key, ...) == value}
    assert same <= {"run", "worker_stop", "unix_sockets.group"}, "give it another value in EVERYTHING"


def test_a_configuration_survives_the_channel(config: Config) -> None:
    document = json.loads(json.dumps(to_json(config)))
    assert "environment" not in document
    survived = from_json(document, config.environment)
    assert survived == config
    # An enumeration of texts is equal to its text, and not the same.
    before, after = (dataclasses.replace(each, environment={}) for each in (config, survived))
    assert repr(after) == repr(before)


def test_absent_parts_survive_the_channel(config: Config) -> None:
    rollout = dataclasses.replace(config.rollout, health_check=None)
    metrics = dataclasses.replace(config.metrics, address=None)
    bare = dataclasses.replace(config, metrics=metrics, rollout=rollout, environment={}, workers=3)
    assert from_json(json.loads(json.dumps(to_json(bare)))) == bare


def test_a_document_of_another_version_is_refused(config: Config) -> None:
    with pytest.raises(TypeError):
        from_json({**to_json(config), "colour": "red"})


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

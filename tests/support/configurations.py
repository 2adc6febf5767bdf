"""Configurations that several tests read."""

from pathlib import Path

import pytest

from clusterd.config.model import Config
from clusterd.config.reading.loader import ConfigError, load

EVERYTHING = """\
app: shop.wsgi:make_app()
interface: wsgi
directory: .
python: bin/python
environment:
  SWITCH: NO
  MODE: 0660
  TIME: 1:30
  EMPTY:
  QUOTED: "a\\tb"
environment_file: variables.env
root_path: /shop
preload: false
worker_start: shop.hooks:start
worker_stop: null
hooks: shop.cluster_hooks
listen:
  - "[::1]:8080"
  - unix:run/http.sock
tls: {listen: ["[::1]:8443"], certificate: bin/python, key: "credential:key.pem", minimum_version: 1.3}
unix_sockets: {mode: 0660, owner: www-data, group: null}
trusted_proxies: [10.0.0.0/8, "::1", unix]
proxy_protocol: on
server_header: off
underscores: refuse
request_ids: return
metrics: {address: off, application: off, series: 500}
control: run/control.sock
agent: 127.0.0.1:8003
workers: 3
threads: 0
greenlets: 500
scheduling: shared
rollout:
  surge: 2
  boot_timeout: 1.5m
  settle: 0s
  max_draining: 1
  health_check: {path: "/health?deep=1", host: "shop.example:8080", expect: 204, timeout: 250ms,
                 headers: ["X-Forwarded-Proto: https"]}
restarts: {burst: 5, per: 1m}
timeouts: {announce: 5s, drain: 1m, drain_idle: 0s, hang: 1h, unready: 6s, stall: off, request: 10s, queue: 1s,
           keepalive: 2s, header: 3s, body: 4s, write: 5s}
limits:
  connections: 50
  queue: 0
  request_line: 4K
  headers: 65536
  header_count: 50
  body: 2G
  websocket_memory: 4G
  max_requests: 1000
  max_memory: 512M
log:
  {level: debug, format: json, repeats: 5, access: slow, access_format: combined, slow: 250ms, targets: full}
debug: {port: 5678, host: "::1"}
"""


def write(directory: Path, text: str | bytes) -> Path:
    path = directory / "clusterd.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def read(directory: Path, text: str | bytes, **flags: str) -> Config:
    return load(write(directory, text), {key.replace("__", "."): (value,) for key, value in flags.items()})


def everything(directory: Path) -> Config:
    """EVERYTHING, beside the file that it names."""
    python = directory / "bin/python"
    python.parent.mkdir()
    python.touch()
    (directory / "variables.env").write_text("SWITCH=hidden by the section\nFROM_FILE=yes\n")
    return read(directory, EVERYTHING)


def complaints(directory: Path, text: str | bytes, **flags: str) -> list[str]:
    """The problems as printed, without the name of the directory."""
    with pytest.raises(ConfigError) as caught:
        read(directory, text, **flags)
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
    return [str(problem).replace(f"{directory}/", "") for problem in caught.value.problems]


def complaint(directory: Path, text: str | bytes, **flags: str) -> str:
    [only] = complaints(directory, text, **flags)
    return only

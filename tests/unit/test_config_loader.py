import sys
from pathlib import Path

import pytest

from clusterd.config.model import (
    AccessLog,
    HealthCheck,
    Interface,
    Log,
    LogFormat,
    LogLevel,
    LogTargets,
    Metrics,
    Preload,
    RequestIds,
    Scheduling,
    Switch,
    TcpAddress,
    UnixAddress,
)
from clusterd.config.reading.loader import ConfigError, load
from tests.support.configurations import complaint, everything, read, write

pytestmark = pytest.mark.engine_independent


def test_defaults(tmp_path: Path) -> None:
    config = read(tmp_path, "app: shop:app\n")
    assert (config.interface, config.preload) == (Interface.AUTO, Preload.AUTO)
    assert config.directory == str(tmp_path)
    assert config.python == sys.executable
    assert dict(config.environment) == {}
    assert (config.root_path, config.worker_start, config.worker_stop) == ("", None, None)
    assert config.listen == (TcpAddress("127.0.0.1", 8000),)
    assert config.metrics.address == TcpAddress("127.0.0.1", 8001)
    assert (config.control, config.workers, config.threads) == (None, None, 4)
    assert config.scheduling is Scheduling.LEAST_CONNECTIONS
    rollout, timeouts, limits = config.rollout, config.timeouts, config.limits
    assert (rollout.surge, rollout.boot_timeout, rollout.settle, rollout.max_draining) == (1, 60.0, 1.0, 4)
    assert rollout.health_check is None
    assert (config.restarts.burst, config.restarts.per) == (20, 10.0)
    assert (timeouts.drain, timeouts.drain_idle, timeouts.hang, timeouts.request) == (30.0, 10.0, 30.0, None)
    assert (timeouts.queue, timeouts.keepalive, timeouts.header) == (30.0, 75.0, 10.0)
    assert (timeouts.body, timeouts.write) == (30.0, 30.0)
    assert (limits.connections, limits.queue, limits.header_count) == (10000, 100, 100)
    assert (limits.request_line, limits.headers, limits.body) == (8 << 10, 32 << 10, 16 << 20)
    assert (limits.max_requests, limits.max_memory) == (0, 0)
    assert config.log == Log(LogLevel.INFO, LogFormat.TEXT, 20, AccessLog.ERRORS, "fields", None, LogTargets.PATH)
    assert config.request_ids is RequestIds.OFF


def test_everything(tmp_path: Path) -> None:
    config = everything(tmp_path)
    assert config.app == "shop.wsgi:make_app()"
    assert config.python == str(tmp_path / "bin/python")
    assert dict(config.environment) == {
        "SWITCH": "NO",
        "MODE": "0660",
        "TIME": "1:30",
        "EMPTY": "",
        "QUOTED": "a\tb",
        "FROM_FILE": "yes",
    }
    assert config.environment_file == f"{tmp_path}/variables.env"
    assert config.preload is Preload.NEVER
    assert config.listen == (TcpAddress("::1", 8080), UnixAddress(f"{tmp_path}/run/http.sock"))
    assert config.metrics.address is None
    assert config.control == f"{tmp_path}/run/control.sock"
    assert (config.workers, config.threads, config.scheduling) == (3, 0, Scheduling.SHARED)
    assert config.rollout.boot_timeout == 90.0
    assert config.rollout.health_check == HealthCheck(
        "/health?deep=1", "shop.example:8080", "204", 0.25, ("X-Forwarded-Proto: https",)
    )
    assert (config.restarts.burst, config.restarts.per) == (5, 60.0)
    assert (config.timeouts.hang, config.timeouts.request) == (3600.0, 10.0)
    assert (config.limits.headers, config.limits.body, config.limits.max_memory) == (65536, 2 << 30, 512 << 20)
    assert config.request_ids is RequestIds.RETURN
    assert config.log == Log(LogLevel.DEBUG, LogFormat.JSON, 5, AccessLog.SLOW, "combined", 0.25, LogTargets.FULL)


def test_a_symbolic_link_stays_unresolved(tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    (tmp_path / "current").symlink_to("release")
    assert read(tmp_path, "app: a:b\ndirectory: ./current\n").directory == f"{tmp_path}/current"


def test_empty_sections_are_no_mistake(tmp_path: Path) -> None:
    config = read(tmp_path, "app: a:b\ntimeouts:\n#  drain: 1s\nenvironment:\nrollout:\n  health_check: null\n")
    assert config == read(tmp_path, "app: a:b\n")


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbfapp: a:b\n").app == "a:b"


def test_a_default_gives_way_to_what_was_written(tmp_path: Path) -> None:
    config = read(tmp_path, "app: a:b\ntimeouts: {drain: 2s}\nrollout: {boot_timeout: 1s, health_check: {path: /}}\n")
    assert config.timeouts.drain_idle == 2.0
    assert config.rollout.health_check == HealthCheck("/", "localhost", "2xx", 1.0)


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    text = "app: a:b\nthreads: 2\nenvironment: {A: file, B: file}\n"
    overrides = {
        "app": ("c:d",),
        "threads": ("3", "5"),
        "listen": ("127.0.0.1:1", "[::1]:2"),
        "environment": ("B=flag=1", "C="),
        "rollout.health_check.path": ("/up",),
        "workers": ("auto",),
        "metrics.address": ("off",),
        "worker_start": ("null",),
    }
    config = load(write(tmp_path, text), overrides)
    assert (config.app, config.threads, config.workers, config.metrics.address) == ("c:d", 5, None, None)
    assert config.listen == (TcpAddress("127.0.0.1", 1), TcpAddress("::1", 2))
    assert dict(config.environment) == {"A": "file", "B": "flag=1", "C": ""}
    assert config.rollout.health_check == HealthCheck("/up", "localhost", "2xx", 5.0)


def test_flags_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load(None, {"app": ("a:b",), "control": ("c.sock",)})
    assert (config.directory, config.control) == (str(tmp_path), f"{tmp_path}/c.sock")
    assert load(write(tmp_path, ""), {"app": ("a:b",)}).app == "a:b"


def test_relative_paths_of_flags_start_at_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = write(tmp_path, "app: a:b\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = load(path, {"listen": ("unix:http.sock",)})
    assert config.listen == (UnixAddress(f"{tmp_path}/elsewhere/http.sock"),)


def test_a_problem_of_a_flag_names_the_flag(tmp_path: Path) -> None:
    text = "app: a:b\n"
    assert complaint(tmp_path, text, timeouts__drain="x").startswith("--timeouts.drain: found 'x', must be a duration")
    assert complaint(tmp_path, text, app="x:").startswith("APP: found 'x:', must be module:attribute")
    assert complaint(tmp_path, text, environment="A").startswith("--environment: found 'A', must be NAME=VALUE")
    with pytest.raises(ConfigError, match=r"^clusterd: app is missing"):
        load(None, {})


@pytest.mark.parametrize(
    ("text", "address", "application", "series"),
    [
        ("", TcpAddress("127.0.0.1", 8001), Switch.ON, 10_000),
        ("metrics:", TcpAddress("127.0.0.1", 8001), Switch.ON, 10_000),
        ("metrics: off", None, Switch.ON, 10_000),
        ("metrics: 127.0.0.1:9", TcpAddress("127.0.0.1", 9), Switch.ON, 10_000),
        ("metrics: {address: off, series: 7}", None, Switch.ON, 7),
        ("metrics: {application: off}", TcpAddress("127.0.0.1", 8001), Switch.OFF, 10_000),
    ],
)
def test_metrics_are_a_section_or_an_address(
    tmp_path: Path, text: str, address: TcpAddress | None, application: Switch, series: int
) -> None:
    path = tmp_path / "clusterd.yaml"
    path.write_text(f"app: a:b\n{text}\n")
    assert load(path).metrics == Metrics(address, application, series)
    overridden = load(path, {"metrics.address": ["127.0.0.1:10"], "metrics.series": ["5"]}).metrics
    assert overridden == Metrics(TcpAddress("127.0.0.1", 10), application, 5)

"""What is refused, where, and with which words; and what a good file becomes."""

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clusterd.cli.arguments import parse_arguments
from clusterd.config.changes import Applies, changes
from clusterd.config.cpus import available_cpus
from clusterd.config.loader import ConfigError, load
from clusterd.config.model import Preload
from clusterd.config.paths import control_path


def refused(path: Path, text: str | bytes) -> list[str]:
    """The problems of a file with this text, without its directory."""
    path = path / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [str(problem).replace(str(path), "c.yaml") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "c.yaml: the file is empty (app is required: write app: module:attribute)"),
        ("# nothing\n", "c.yaml: the file is empty (app is required: write app: module:attribute)"),
        ("workers: 2\n", "c.yaml: app is required: module:attribute or module:factory()"),
        ("app: a:b\nwokers: 3\n", "c.yaml:2:1: wokers: unknown setting (did you mean 'workers'?)"),
        ("app: a:b\ndrain: 3s\n", "c.yaml:2:1: drain: unknown setting (did you mean 'timeouts.drain'?)"),
        (
            "app: a:b\ntimeouts.drain: 3s\n",
            "c.yaml:2:1: timeouts.drain: unknown setting (write it as a section: timeouts: {drain: ...})",
        ),
        ("app: a:b\napp: c:d\n", "c.yaml:2:1: app: given twice (it is already in line 1: keep one of them)"),
        (
            "app: a:b\nworkers: 0660\n",
            (
                "c.yaml:2:10: workers: found 0660, must be a whole number from 1 to 1024, or auto "
                "(without leading zeros, which may or may not mean octal)"
            ),
        ),
        (
            "app: a:b\ntimeouts: {hang: 30}\n",
            (
                "c.yaml:2:18: timeouts.hang: found 30, must be a duration from 500ms to 24h "
                "(the unit is missing: write 30s)"
            ),
        ),
        (
            "app: a:b\ntimeouts: {hang: 1:30}\n",
            (
                "c.yaml:2:18: timeouts.hang: found '1:30', must be a duration from 500ms to 24h "
                "(write a number and a unit, like 500ms, 5s or 2m)"
            ),
        ),
        (
            "app: a:b\ntimeouts: {drain: 5s, drain_idle: 9s}\n",
            "c.yaml:2:23: timeouts.drain_idle: 9 s is longer than timeouts.drain (5 s)",
        ),
        ("app: a:b\npreload: off\n", "c.yaml:2:10: preload: found 'off', must be auto, true or false"),
        ("app: a:b\nthreads: -3\n", "c.yaml:2:10: threads: found -3, must be a whole number from 0 to 1024"),
        (
            "app: a:b\nthreads: '4'\n",
            "c.yaml:2:10: threads: found '4', must be a whole number from 0 to 1024 (without quotes)",
        ),
        ("app: a:b\ntimeouts: 5s\n", "c.yaml:2:11: timeouts: found '5s', must be a section (keys and values)"),
        ("app: a:b\nlisten: []\n", "c.yaml:2:9: listen: found an empty list, must be a list, each an address: "),
        (
            "app: a:b\nlisten: ['h:1', 'h:1']\n",
            "c.yaml:2:1: listen: h:1 is given twice",
        ),
        (
            "app: a:b\ninterface: asgi\n",
            "c.yaml:2:12: interface: found 'asgi', must be auto or wsgi (not supported by this version",
        ),
        ("app: &a a:b\n", "c.yaml:1:6: app: anchors (&name) and aliases (*name) are not supported"),
        ("app: !!python/object:os.system a:b\n", "c.yaml:1:6: app: the tag"),
        ("\tapp: a:b\n", "c.yaml:1:1: this is not YAML"),
        ("app: [\n", "c.yaml:2:1: this is not YAML"),
        ("- a\n", "c.yaml:1:1: found a list where settings were expected"),
        ("app: a:b\n---\napp: c:d\n", "c.yaml:2:1: a second document starts here"),
        (b"app: \xff\n", "c.yaml:1:6: byte 0xff is not UTF-8 (save the file as UTF-8)"),
        ("app: a:b\nenvironment: {LISTEN_FDS: 3}\n", "c.yaml:2:15: environment.LISTEN_FDS: is set by clusterd"),
        ("app: a.py\n", "c.yaml:1:6: app: found 'a.py', must be module:attribute or module:factory() (a module"),
        (
            "app: a:b\nrollout: {health_check: {host: x}}\n",
            "c.yaml:2:11: rollout.health_check.path: rollout.health_check.path is required",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str | bytes, problem: str) -> None:
    assert any(each.startswith(problem) for each in refused(tmp_path, text)), refused(tmp_path, text)


def test_all_problems_at_once(tmp_path: Path) -> None:
    assert len(refused(tmp_path, "app: a:b\nwokers: 3\nthreads: many\ntimeouts: {drin: 5s, hang: 0s}\n")) == 4


def test_a_file_that_is_not_there_or_a_directory(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "none.yaml", "no such file"), (tmp_path, "directory")):
        with pytest.raises(ConfigError, match=words):
            load(path)


DEEP = "a: " + "{a: " * 50 + "}" * 50


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
@example(DEEP)
@example('app: "\\UFFFFFFFF"')
@example("environment: {a: b, ? [c] : d}")
def test_no_text_whatever_is_worse_than_a_config_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / f"any-{os.getpid()}.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load(path)
    except ConfigError as error:
        assert error.problems
        assert all("\n" not in str(problem) for problem in error.problems)


def test_a_good_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "app: a:b\ndirectory: releases/current\npreload: true\nworkers: 3\nlisten: ['[::1]:80', unix:run/s.sock]\n"
        "environment: {A: NO, B: 0660, C: 1:30, D: off}\nlimits: {body: 2M}\ntimeouts: {drain: 5s}\nmetrics: off\n"
    )
    config = load(path)
    assert config.directory == f"{tmp_path}/releases/current"
    assert config.preload is Preload.ALWAYS
    assert config.workers == 3
    assert [str(address) for address in config.listen] == ["[::1]:80", f"unix:{tmp_path}/run/s.sock"]
    assert config.environment == {"A": "NO", "B": "0660", "C": "1:30", "D": "off"}
    assert config.limits.body == 2 << 20
    assert (config.timeouts.drain, config.timeouts.drain_idle) == (5.0, 5.0)
    assert config.metrics is None
    assert config.rollout.health_check is None


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("app: a:b\nworkers: 3\nenvironment: {A: x, B: y}\n")
    arguments = parse_arguments(
        ["--config", str(path), "--workers", "auto", "--timeouts.drain", "10s", "--environment", "A=z"]
    )
    config = load(arguments.config_path, arguments.overrides)
    assert config.workers is None
    assert config.timeouts.drain == 10.0
    assert config.environment == {"A": "z", "B": "y"}


def test_an_application_and_flags_need_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = parse_arguments(["m:app", "--listen", "127.0.0.1:1", "--listen", "unix:s"])
    config = load(arguments.config_path, arguments.overrides)
    assert (config.app, config.directory) == ("m:app", str(tmp_path))
    assert [str(address) for address in config.listen] == ["127.0.0.1:1", f"unix:{tmp_path}/s"]


def test_a_bad_flag_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--timeouts\.drain: found 'soon', must be a duration"):
        load(None, {"app": ("a:b",), "timeouts.drain": ("soon",)})


def test_changes_say_when_they_apply() -> None:
    old = load(None, {"app": ("a:b",)})
    new = load(None, {"app": ("c:d",), "listen": ("127.0.0.1:9",), "log.level": ("debug",)})
    assert {change.key: change.applies for change in changes(old, new)} == {
        "app": Applies.NEXT_GENERATION,
        "listen": Applies.RESTART,
        "log.level": Applies.LIVE,
    }
    assert changes(old, old) == ()


def test_a_changed_health_check_is_a_change() -> None:
    old = load(None, {"app": ("a:b",)})
    new = load(None, {"app": ("a:b",), "rollout.health_check.path": ("/up",)})
    assert "rollout.health_check.path" in {change.key for change in changes(old, new)}


@pytest.mark.parametrize(
    ("files", "cgroup", "expected"),
    [
        ({"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000"}, "0::/a/b\n", 1),
        ({"cpu/a/cpu.cfs_quota_us": "100000", "cpu/a/cpu.cfs_period_us": "100000"}, "3:cpu,cpuacct:/a\n", 1),
        ({"a/cpu.max": "nonsense"}, "0::/a\n", len(os.sched_getaffinity(0))),
        ({}, "", len(os.sched_getaffinity(0))),
    ],
)
def test_cpus_respect_affinity_and_quota(tmp_path: Path, files: dict[str, str], cgroup: str, expected: int) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "self").write_text(cgroup)
    assert available_cpus(tmp_path, tmp_path / "self") == expected


def test_the_control_path() -> None:
    assert control_path("/x", {"RUNTIME_DIRECTORY": "/r"}, 1) == Path("/x")
    assert control_path(None, {"RUNTIME_DIRECTORY": "/r:/s", "XDG_RUNTIME_DIR": "/u"}, 1) == Path("/r/control.sock")
    assert control_path(None, {"XDG_RUNTIME_DIR": "/u"}, 1) == Path("/u/clusterd/control.sock")
    assert control_path(None, {}, 7) == Path("/tmp/clusterd-7/control.sock")

"""What the configuration takes from where clusterd runs: CPUs, paths, the command line."""

import os
import re
from pathlib import Path

import pytest

from clusterd import __version__
from clusterd.cli.arguments import DEFAULT_CONFIG, parse_arguments
from clusterd.config.cpus import available_cpus
from clusterd.config.foreign import FOREIGN, instead_of
from clusterd.config.paths import control_path, service_path
from clusterd.config.settings.schema import BY_KEY, SECTIONS, SETTINGS
from tests.support.configurations import complaint


@pytest.fixture
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


def cgroup(root: Path, membership: str, files: dict[str, str]) -> int:
    for name, text in files.items():
        (root / "sys" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "sys" / name).write_text(text)
    (root / "cgroup").write_text(membership)
    return available_cpus(root / "sys", root / "cgroup")


V2 = "0::/system.slice/clusterd.service\n"
V1 = "7:memory:/other\n4:cpu,cpuacct:/docker/1\n1:name=systemd:/x\n"


@pytest.mark.usefixtures("eight_cpus")
@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        (V2, {}, 8),
        ("", {}, 8),
        (V2, {"system.slice/clusterd.service/cpu.max": "max 100000\n"}, 8),
        (V2, {"system.slice/clusterd.service/cpu.max": "200000 100000\n"}, 2),
        (V2, {"system.slice/clusterd.service/cpu.max": "150000 100000\n"}, 2),
        (V2, {"system.slice/clusterd.service/cpu.max": "5000 100000\n"}, 1),
        (V2, {"system.slice/clusterd.service/cpu.max": "1600000 100000\n"}, 8),
        (V2, {"system.slice/cpu.max": "300000 100000\n"}, 3),
        (V2, {"system.slice/cpu.max": "300000 100000\n", "system.slice/clusterd.service/cpu.max": "max 100000\n"}, 3),
        (V2, {"cpu.max": "400000 100000\n", "system.slice/cpu.max": "500000 100000\n"}, 4),
        (V2, {"unified/system.slice/clusterd.service/cpu.max": "200000 100000\n"}, 2),
        (V2, {"system.slice/clusterd.service/cpu.max": "nonsense"}, 8),
        (V2, {"system.slice/clusterd.service/cpu.max": "100000 0\n"}, 8),
        (V1, {"cpu/docker/1/cpu.cfs_quota_us": "-1\n", "cpu/docker/1/cpu.cfs_period_us": "100000\n"}, 8),
        (V1, {"cpu/docker/1/cpu.cfs_quota_us": "250000\n", "cpu/docker/1/cpu.cfs_period_us": "100000\n"}, 3),
        # In a container the path of the host is not there, and the root of the mount is the container's own group.
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 1),
    ],
)
def test_cpus_are_what_affinity_and_quota_leave(
    tmp_path: Path, membership: str, files: dict[str, str], expected: int
) -> None:
    assert cgroup(tmp_path, membership, files) == expected


def test_affinity_binds_without_a_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5})
    assert available_cpus(tmp_path, tmp_path / "missing") == 2


@pytest.mark.parametrize(
    ("configured", "environ", "expected"),
    [
        ("/a/b.sock", {"RUNTIME_DIRECTORY": "/run/clusterd"}, "/a/b.sock"),
        (None, {"RUNTIME_DIRECTORY": "/run/clusterd", "XDG_RUNTIME_DIR": "/run/user/7"}, "/run/clusterd/control.sock"),
        (None, {"RUNTIME_DIRECTORY": "/run/a:/run/b"}, "/run/a/control.sock"),
        (None, {"XDG_RUNTIME_DIR": "/run/user/7"}, "/run/user/7/clusterd/control.sock"),
        (None, {"XDG_RUNTIME_DIR": "", "RUNTIME_DIRECTORY": ""}, "/tmp/clusterd-7/control.sock"),
    ],
)
def test_the_control_socket_has_one_place(configured: str | None, environ: dict[str, str], expected: str) -> None:
    assert control_path(configured, environ, 7) == Path(expected)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, "/run/clusterd/control.sock"),
        ("/etc/clusterd/clusterd.yaml", "/run/clusterd/control.sock"),
        ("/etc/clusterd/blog.yaml", "/run/clusterd-blog/control.sock"),
        ("/srv/blog.yaml", None),
    ],
)
def test_the_packaged_units_have_their_control_sockets_in_run(config: str | None, expected: str | None) -> None:
    found = service_path(None if config is None else Path(config))
    assert (None if found is None else str(found)) == expected


def test_a_mistaken_flag_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse_arguments(["myapp:app", "--wokers", "4"])
    assert exit_.value.code == 2
    assert "did you mean --workers?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "answer"),
    [
        ("-w=4", "use --workers instead"),
        ("--bind=:80", "use --listen HOST:PORT instead"),
        ("--reload", "use --watch . instead"),
        ("--proxy-headers", "use --trusted_proxies instead"),
        ("--forwarded-allow-ips=*", "use --trusted_proxies instead"),
        ("--max-requests=5", "use --limits.max_requests instead"),
        ("--graceful-timeout=3", "use --timeouts.drain instead"),
        ("--access-log", "use --log.access all instead"),
        ("--user=www", "use User= of the unit instead"),
        ("--daemon", "not needed here: systemd runs it in the background"),
        ("--env=A=b", "use --environment NAME=VALUE instead"),
        ("-e", "use --environment NAME=VALUE instead"),
        (
            "-k=gevent",
            "not needed here: WSGI, ASGI, and gevent where the module calls monkey.patch_all(), are found out",
        ),
        ("--worker-tmp-dir=/dev/shm", "not needed here: a hang is found without a file"),
        ("--no-access-log", "use --log.access off instead"),
        ("--factory", "write the application as module:factory()"),
        ("--app=myapp:app", "the application has no flag: clusterd myapp:app"),
        ("--check-config", "use --check instead"),
        ("--print-config", "use clusterctl config instead"),
        (
            "--preload",
            "--preload has a value: true is what that of gunicorn does, and auto, the default, nearly always too",
        ),
    ],
)
def test_a_flag_of_another_server_is_answered_with_what_it_is_here(
    flag: str, answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["myapp:app", flag])
    assert f"clusterd: {answer}\n" in capsys.readouterr().err


@pytest.mark.parametrize("name", FOREIGN)
def test_so_is_its_setting_in_a_file(name: str, tmp_path: Path) -> None:
    said = complaint(tmp_path, f"app: a:b\n{name}: 1\n")
    assert said == f"clusterd.yaml:2:1: {name}: unknown setting ({instead_of(name)})"


@pytest.mark.parametrize("clause", sorted(set(FOREIGN.values())))
def test_what_is_named_instead_is_there(clause: str) -> None:
    key = re.match(r"[a-z_.]+(?=$|:|,)", clause)
    if key is not None and key[0] != "nothing":
        assert key[0] in BY_KEY or key[0] in SECTIONS


def test_no_setting_of_ours_is_called_foreign() -> None:
    assert not FOREIGN.keys() & {key.partition(".")[0] for key in BY_KEY}


def test_hyphens_and_underscores_are_the_same_in_flags() -> None:
    written = parse_arguments(["a:b", "--root-path", "/shop", "--limits.max-requests=5", "--trusted-proxies", "unix"])
    assert dict(written.overrides) == {
        "app": ("a:b",), "root_path": ("/shop",), "limits.max_requests": ("5",), "trusted_proxies": ("unix",)
    }  # fmt: skip
    assert parse_arguments(["a:b", "--root_path=/a-b"]).overrides["root_path"] == ("/a-b",)


def test_without_arguments_the_default_file_is_read() -> None:
    arguments = parse_arguments([])
    assert (arguments.config_path, arguments.check, dict(arguments.overrides)) == (DEFAULT_CONFIG, False, {})


def test_an_application_needs_no_file() -> None:
    arguments = parse_arguments(["shop:app", "--workers", "4", "--listen", "a:1", "--listen", "b:2"])
    assert arguments.config_path is None
    assert arguments.overrides == {"app": ("shop:app",), "workers": ("4",), "listen": ("a:1", "b:2")}


def test_a_file_and_flags_go_together() -> None:
    arguments = parse_arguments(["shop:app", "--config", "x.yaml", "--check", "--timeouts.drain=5s"])
    assert (arguments.config_path, arguments.check) == (Path("x.yaml"), True)
    assert arguments.overrides == {"app": ("shop:app",), "timeouts.drain": ("5s",)}


def test_flags_are_not_abbreviated(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(["--worker", "4"])
    assert caught.value.code == 2
    assert "--worker" in capsys.readouterr().err


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(["--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert all(setting.flag in text for setting in SETTINGS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(f"clusterd {__version__} (the engine runs ")

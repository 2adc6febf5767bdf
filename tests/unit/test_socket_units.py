"""What systemctl tells of socket units and jobs: which sockets systemd keeps when a service stops."""

import pytest

from clusterd.systemd.socket_units import kept_names, own_unit

pytestmark = pytest.mark.engine_independent

UNIT = "clusterd.service"


def block(unit: str, name: str, state: str = "active", triggers: str = UNIT) -> str:
    return f"Id={unit}\nActiveState={state}\nTriggers={triggers}\nFileDescriptorName={name}\n"


UNITS = "\n".join(
    [
        "Id=clusterd.service\nActiveState=deactivating\n",
        block("clusterd.socket", "http"),
        block("clusterd-metrics.socket", "metrics"),
        block("clusterd-https.socket", "https", "inactive"),
        block("clusterd@shop.socket", "http", triggers="clusterd@shop.service"),
        block("syslog.socket", "syslog.socket", triggers="a.service b.service"),
    ]
)


@pytest.mark.parametrize(
    ("jobs", "kept"),
    [
        ("", {"http", "metrics"}),
        ("  12 clusterd.service stop running\n", {"http", "metrics"}),
        ("  12 clusterd.service restart running\n 13 clusterd.socket start waiting\n", {"http", "metrics"}),
        ("  12 clusterd.service stop running\n 13 clusterd.socket stop waiting\n", {"metrics"}),
        ("13 clusterd.socket restart waiting\n14 clusterd-metrics.socket stop waiting\n", set()),
        ("13 clusterd@shop.socket stop waiting\n", {"http", "metrics"}),
        ("nonsense\n", {"http", "metrics"}),
    ],
)
def test_a_socket_is_kept_unless_its_unit_stops_or_is_gone(jobs: str, kept: set[str]) -> None:
    assert kept_names(UNIT, jobs, UNITS) == frozenset(kept)


@pytest.mark.parametrize("state", ["inactive", "failed", "deactivating"])
def test_a_socket_whose_unit_was_stopped_before_is_not_kept(state: str) -> None:
    units = UNITS.replace(block("clusterd.socket", "http"), block("clusterd.socket", "http", state))
    assert kept_names(UNIT, "", units) == frozenset({"metrics"})


@pytest.mark.parametrize("units", ["", "\n\n", "Failed to connect to bus: No such file or directory\n"])
def test_without_an_answer_nothing_is_known(units: str) -> None:
    assert kept_names(UNIT, "", units) is None


@pytest.mark.parametrize(
    ("cgroups", "unit"),
    [
        ("0::/system.slice/clusterd.service\n", "clusterd.service"),
        ("0::/system.slice/system-clusterd.slice/clusterd@shop.service\n", "clusterd@shop.service"),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service\n", "web.service"),
        ("0::/system.slice/clusterd.service/workers\n", "clusterd.service"),
        ("0::/system.slice/_tasks.service\n", "tasks.service"),
        (
            "5:memory:/system.slice/other.service\n1:name=systemd:/system.slice/clusterd.service\n0::/\n",
            "clusterd.service",
        ),
        ("0::/user.slice/user-0.slice/session-1.scope\n", None),
        ("", None),
    ],
)
def test_the_own_unit_is_told_by_the_control_group(cgroups: str, unit: str | None) -> None:
    assert own_unit(cgroups, {"SYSTEMD_EXEC_PID": "42"}, 42) == unit


def test_a_process_that_systemd_has_not_executed_has_no_unit() -> None:
    for environ in ({}, {"SYSTEMD_EXEC_PID": "41"}):
        assert own_unit("0::/system.slice/clusterd.service\n", environ, 42) is None

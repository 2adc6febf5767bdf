"""What is read of a control group, from files like the kernel's."""

from pathlib import Path

import pytest

from clusterd.metrics.kernel.cgroup import Cgroup, CgroupUsage

pytestmark = pytest.mark.engine_independent

PRESSURE = """some avg10=1.53 avg60=0.87 avg300=0.73 total={some}
full avg10=0.00 avg60=0.00 avg300=0.00 total={full}
"""
FILES = {
    "cgroup.controllers": "cpu memory\n",
    "cpu.pressure": PRESSURE.format(some=1500000, full=7),
    "memory.pressure": PRESSURE.format(some=250000, full=125000),
    "memory.current": "104857600\n",
    "memory.max": "max\n",
    "memory.events": "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n",
    "memory.stat": "anon 90000000\nfile 10000000\ninactive_file 3000000\nactive_file 1857600\n",
}
VERSION_1 = {
    "memory.usage_in_bytes": "104857600\n",
    "memory.stat": (
        "inactive_file 7\nhierarchical_memory_limit 2000\ntotal_inactive_file 3000000\ntotal_active_file 1857600\n"
    ),
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
}


def write(group: Path, files: dict[str, str]) -> None:
    group.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (group / name).write_text(text)


def usage(mounted: Path, groups: str = "0::/system.slice/clusterd.service\n") -> CgroupUsage:
    (mounted / "own").write_text(groups)
    return Cgroup.own(mounted / "own", mounted).usage()


@pytest.mark.parametrize("below", ["", "unified"])
def test_everything_of_the_group_is_read_wherever_version_2_is_mounted(tmp_path: Path, below: str) -> None:
    write(tmp_path / below / "system.slice/clusterd.service", FILES)
    assert usage(tmp_path, "4:memory:/other\n1:name=systemd:/x\n0::/system.slice/clusterd.service\n") == CgroupUsage(
        cpu_waiting_seconds=1.5,
        memory_waiting_seconds=0.25,
        memory_stalled_seconds=0.125,
        memory_bytes=100000000,
        memory_limit_bytes=None,
        oom_kills=2,
    )


def test_memory_is_read_where_version_1_has_it(tmp_path: Path) -> None:
    write(tmp_path / "unified/own", {each: FILES[each] for each in ("cgroup.controllers", "cpu.pressure")})
    write(tmp_path / "memory/shop", VERSION_1)
    groups = "4:memory:/shop\n1:name=systemd:/x\n0::/own\n"
    assert usage(tmp_path, groups) == CgroupUsage(
        cpu_waiting_seconds=1.5, memory_bytes=100000000, memory_limit_bytes=2000, oom_kills=4
    )
    unlimited = VERSION_1["memory.stat"].replace("2000", "9223372036854771712")
    write(tmp_path / "memory/shop", {"memory.stat": unlimited})
    assert usage(tmp_path, groups).memory_limit_bytes is None
    assert usage(tmp_path, "4:memory:/shop\n").oom_kills == 4


def test_the_least_limit_of_the_groups_above_holds(tmp_path: Path) -> None:
    write(tmp_path / "system.slice/clusterd.service", {**FILES, "memory.max": "2000\n"})
    write(tmp_path / "system.slice", {"memory.max": "1000\n"})
    assert usage(tmp_path).memory_limit_bytes == 1000
    write(tmp_path / "system.slice", {"memory.max": "max\n"})
    assert usage(tmp_path).memory_limit_bytes == 2000


def test_what_the_kernel_does_not_tell_is_left_out(tmp_path: Path) -> None:
    assert usage(tmp_path) == CgroupUsage()
    assert usage(tmp_path, "4:memory:/x\n") == CgroupUsage()
    assert Cgroup.own(tmp_path / "none", tmp_path).usage() == CgroupUsage()
    write(tmp_path / "system.slice/clusterd.service", {"cgroup.controllers": "", "memory.current": "5\n"})
    assert usage(tmp_path) == CgroupUsage(memory_bytes=5)

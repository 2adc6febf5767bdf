"""Which deaths are put down to the kernel's want of memory."""

from collections.abc import Callable
from pathlib import Path

import pytest

from clusterd.metrics.kernel.cgroup import oom_kills_in
from clusterd.metrics.kernel.oom import (
    EXPLAINS_SECONDS,
    Counter,
    ForMemory,
    MemoryKills,
    killed,
    killed_in_log,
    own_counter,
)

NOBODY: frozenset[int] = frozenset()
V2 = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"
V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"


GROUPS = "4:memory:/app\n1:name=systemd:/system.slice/app.service\n0::/system.slice/app.service\n"


@pytest.mark.parametrize(("text", "count"), [(V2, 2), (V1, 5), ("nr_free_pages 1\noom_kill 7\n", 7), ("", None)])
def test_the_count_is_read_from_each_of_the_files(tmp_path: Path, text: str, count: int | None) -> None:
    (tmp_path / "file").write_text(text)
    assert oom_kills_in(tmp_path / "file") == count


@pytest.mark.parametrize(
    ("files", "count", "is_own"),
    [
        ({"system.slice/app.service/memory.events": V2}, 2, True),
        ({"unified/system.slice/app.service/memory.events": "", "memory/app/memory.oom_control": V1}, 5, True),
        ({}, 7, False),
    ],
)
def test_the_own_group_comes_first(tmp_path: Path, files: dict[str, str], count: int, *, is_own: bool) -> None:
    (tmp_path / "groups").write_text(GROUPS)
    (tmp_path / "vmstat").write_text("oom_kill 7\n")
    for name, text in files.items():
        file = tmp_path / "mounted" / name
        file.parent.mkdir(parents=True)
        file.write_text(text)
        (file.parent / "cgroup.controllers").touch()
        (file.parent / "memory.usage_in_bytes").touch()
    counter = own_counter(tmp_path / "groups", tmp_path / "mounted", tmp_path / "vmstat")
    assert (counter.read(), counter.is_own) == (count, is_own)


def kills_of(count: Callable[[], int | None], *, is_own: bool = True, named: frozenset[int] = NOBODY) -> MemoryKills:
    return MemoryKills(Counter(count, is_own), lambda _: named)


def test_each_kill_explains_one_death_for_a_while() -> None:
    count = 7
    kills = kills_of(lambda: count)
    assert kills.judge(1, 100.0) is ForMemory.NO
    count += 2
    kills.look(101.0)
    assert kills.judge(1, 101.5) is ForMemory.SURELY
    assert kills.judge(2, 102.0) is ForMemory.SURELY
    assert kills.judge(3, 102.0) is ForMemory.NO
    count += 1
    kills.look(103.0)
    assert kills.judge(1, 103.0 + EXPLAINS_SECONDS) is ForMemory.NO
    count += 1
    assert kills.judge(1, 200.0) is ForMemory.SURELY


def test_a_counter_that_cannot_be_read_for_a_while_counts_no_kill_twice() -> None:
    counts: list[int | None] = [7, None, 7, 8]
    kills = kills_of(lambda: counts.pop(0))
    kills.look(100.0)
    assert kills.judge(1, 101.0) is ForMemory.NO
    assert kills.judge(1, 102.0) is ForMemory.SURELY


def test_where_nothing_counts_nothing_is_explained() -> None:
    assert kills_of(lambda: None).judge(1, 100.0) is ForMemory.NO


@pytest.mark.parametrize(("pid", "found"), [(4711, ForMemory.SURELY), (4712, ForMemory.PROBABLY)])
def test_what_the_machine_counts_is_sure_only_where_the_kernels_log_names_the_process(
    pid: int, found: ForMemory
) -> None:
    count = 7
    kills = kills_of(lambda: count, is_own=False, named=frozenset({4711}))
    count += 1
    assert kills.judge(pid, 100.0) is found
    assert kills.judge(4711, 100.0) is ForMemory.NO, "another SIGKILL is none of the kernel's"


LOG = (
    b"6,1,90000000,-;Linux version 6.1\n",
    b"3,2,95000000,-;Out of memory: Killed process 11 (python) total-vm:1kB, anon-rss:1kB\n SUBSYSTEM=x\n",
    b"3,3,100000000,-;Out of memory: Killed process 12 (clusterd-w1) total-vm:1kB, anon-rss:1kB\n",
    b"3,4,100500000,c;Memory cgroup out of memory: Killed process 13 (clusterd-w2) total-vm:1kB\n",
    b"4,5,100600000,-;python invoked oom-killer: gfp_mask=0x100cca\n",
    b"garbage",
)


def test_the_kernels_log_names_the_processes_that_it_has_killed_of_late() -> None:
    assert killed(LOG, since=100.0) == {12, 13}
    assert killed(LOG, since=90.0) == {11, 12, 13}
    assert killed((), since=0.0) == frozenset()


def test_a_kernels_log_that_cannot_be_read_names_none(tmp_path: Path) -> None:
    assert killed_in_log(0.0, str(tmp_path / "none")) == frozenset()
    log = tmp_path / "log"
    log.write_bytes(LOG[2])
    assert killed_in_log(0.0, str(log)) == {12}

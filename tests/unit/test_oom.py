"""Which deaths are put down to the kernel's want of memory."""

from pathlib import Path

import pytest

from clusterd.metrics.kernel.oom import EXPLAINS_SECONDS, MemoryKills, counter_files, read_count

V2 = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"
V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"


@pytest.mark.parametrize(("text", "count"), [(V2, 2), (V1, 5), ("nr_free_pages 1\noom_kill 7\n", 7), ("", None)])
def test_the_count_is_read_from_each_of_the_files(text: str, count: int | None) -> None:
    assert read_count(text) == count


def test_the_own_group_comes_first() -> None:
    groups = ["4:memory:/app\n", "1:name=systemd:/system.slice/app.service\n", "0::/system.slice/app.service\n"]
    assert list(counter_files(groups, Path("/groups"))) == [
        Path("/groups/memory/app/memory.oom_control"),
        Path("/groups/system.slice/app.service/memory.events"),
        Path("/proc/vmstat"),
    ]


def test_each_kill_explains_one_death_for_a_while() -> None:
    count = 7
    kills = MemoryKills(lambda: count)
    assert not kills.explains(100.0)
    count += 2
    kills.look(101.0)
    assert kills.explains(101.5)
    assert kills.explains(102.0)
    assert not kills.explains(102.0)
    count += 1
    kills.look(103.0)
    assert not kills.explains(103.0 + EXPLAINS_SECONDS)
    count += 1
    assert kills.explains(200.0)


def test_where_nothing_counts_nothing_is_explained() -> None:
    assert not MemoryKills(lambda: None).explains(100.0)

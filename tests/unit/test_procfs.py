"""What is read from /proc, from files like the kernel's."""

import os
from pathlib import Path

import pytest

from clusterd.metrics.kernel.procfs import (
    ProcessMemory,
    ProcessUsage,
    process_memory,
    process_usage,
)

# From proc(5): pid, comm, state, ppid ... utime, stime ... starttime, vsize, rss, ...
STAT = "42 (a) (b) S 1 42 42 0 -1 4194560 100 0 0 0 {user} {system} 0 0 20 0 5 0 1000 99999 {pages} 18446"

SMAPS = """55d0c0a00000-7ffd5c9f0000 ---p 00000000 00:00 0                          [rollup]
Rss:               50000 kB
Pss:               20000 kB
Shared_Clean:      12000 kB
Private_Clean:       400 kB
Private_Dirty:      5000 kB
Private_Hugetlb:       0 kB
"""


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    directory = tmp_path / "42"
    (directory / "fd").mkdir(parents=True)
    ticks = os.sysconf("SC_CLK_TCK")
    (directory / "stat").write_text(STAT.format(user=3 * ticks, system=ticks // 2, pages=10))
    (directory / "smaps_rollup").write_text(SMAPS)
    return tmp_path


def test_a_process_is_read_whatever_it_calls_itself(proc: Path) -> None:
    usage = process_usage(42, proc)
    assert usage is not None
    assert usage.cpu_seconds == 3.5
    assert usage.resident_bytes == 10 * os.sysconf("SC_PAGE_SIZE")


def test_private_memory_is_clean_and_dirty(proc: Path) -> None:
    assert process_memory(42, proc) == ProcessMemory(20000 * 1024, 5400 * 1024)


def test_a_process_that_is_gone_is_none(proc: Path) -> None:
    assert process_usage(43, proc) is None
    assert process_memory(43, proc) is None


def test_a_process_without_memory_any_more_is_none(proc: Path) -> None:
    (proc / "42" / "smaps_rollup").write_text("")
    assert process_memory(42, proc) is None


def test_this_process() -> None:
    before = process_usage(os.getpid())
    descriptor = os.open("/dev/null", os.O_RDONLY)
    after = process_usage(os.getpid())
    os.close(descriptor)
    assert isinstance(before, ProcessUsage)
    assert isinstance(after, ProcessUsage)
    assert after.open_fds - before.open_fds == 1
    assert after.resident_bytes > 1_000_000
    memory = process_memory(os.getpid())
    assert memory is not None
    assert memory.private_bytes > 0

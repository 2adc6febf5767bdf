"""Counts the CPUs that this service may use, by its CPU affinity and its cgroup's quota."""

import math
import os
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
PROC_CGROUP = Path("/proc/self/cgroup")


def available_cpus(cgroup_root: Path = CGROUP_ROOT, proc_self_cgroup: Path = PROC_CGROUP) -> int:
    """Return the number of usable CPUs: at least 1, and a quota of 1.5 CPUs counts as 2."""
    quota = min(_quotas(cgroup_root, proc_self_cgroup), default=math.inf)
    affinity = len(os.sched_getaffinity(0))
    return max(1, affinity if math.isinf(quota) else min(affinity, math.ceil(quota)))


def _quotas(root: Path, proc_self_cgroup: Path) -> list[float]:
    """Return the quotas, in CPUs, of this process's cgroup and its ancestors. The smallest quota applies."""
    try:
        lines = proc_self_cgroup.read_text().splitlines()
    except OSError:
        return []
    quotas = []
    for line in lines:
        # cgroups(7): each line is hierarchy:controllers:path. In version 2 the controllers are empty.
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in (root / "cpu", root / "cpu,cpuacct") if controllers else (root, root / "unified"):
            directory = mount / path.lstrip("/")
            for each in (directory, *directory.parents):
                if each == mount.parent:
                    break
                quota = _quota_v1(each) if controllers else _quota_v2(each)
                if quota is not None:
                    quotas.append(quota)
    return quotas


def _quota_v2(directory: Path) -> float | None:
    try:
        quota, period = (directory / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(directory: Path) -> float | None:
    try:
        quota = int((directory / "cpu.cfs_quota_us").read_text())
        period = int((directory / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None

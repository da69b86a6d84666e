"""How many cores this process may use."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path


def available_cores() -> int:
    """Cores that this process may use: by its affinity, and by the quota of its container, rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota()
    return max(1, min(cores, math.ceil(quota) if quota else cores))


def cgroup_quota(membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Cores' worth of time that the control groups of this process allow, version 1 or 2; None: no limit."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    found: list[float] = []
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container the path may be the host's, while its own group is mounted at the root: look at every level.
        inner = Path(path.lstrip("/"))
        for base in (root, root / "cpu", root / "cpu,cpuacct"):
            found += [quota for level in (inner, *inner.parents) if (quota := _quota_of(base / level))]
    return min(found, default=None)


def _quota_of(group: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        quota_now = int((group / "cpu.cfs_quota_us").read_text())
        return quota_now / int((group / "cpu.cfs_period_us").read_text()) if quota_now > 0 else None
    return None

"""Finds out how many cores this process may use."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path


def available_cores() -> int:
    """Return how many cores this process may use, limited by its affinity and by the quota of its container, rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota()
    return max(1, min(cores, math.ceil(quota) if quota else cores))


def cgroup_quota(membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return how many cores' worth of time the control groups of this process allow; None if there is no limit.

    Groups of version 1 and of version 2 count. ``membership`` is the file that lists the groups of the process, ``root`` the
    folder where groups are mounted.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    quotas: list[float] = []
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container, the path may be that of the host, while the group of the container is mounted at the root. So look
        # at every level of the path. The limits of outer groups hold for inner ones, too.
        inner = Path(path.lstrip("/"))
        for base in (root, root / "cpu", root / "cpu,cpuacct"):
            quotas += [quota for level in (inner, *inner.parents) if (quota := _quota_of(base / level))]
    return min(quotas, default=None)


def _quota_of(group: Path) -> float | None:
    """Return the limit of the control group with folder ``group``, in cores; None if it has none or does not exist."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        quota_now = int((group / "cpu.cfs_quota_us").read_text())
        return quota_now / int((group / "cpu.cfs_period_us").read_text()) if quota_now > 0 else None
    return None

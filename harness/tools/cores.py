"""How many cores this process has."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Cores this process may use: those it is bound to, up to the quota of its control group."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
    except (OSError, ValueError):
        quota, period = "max", "1"
    if quota != "max":
        cores = min(cores or 1, max(1, int(quota) // int(period)))
    return cores or 1


__all__ = ["usable_cores"]

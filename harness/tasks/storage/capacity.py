"""Whether disk and memory have room for data, checked before they are made."""

from __future__ import annotations

import contextlib
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

CGROUPS, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def check_disk(folder: Path, size: int) -> None:
    """Raises ValueError if the disk of `folder`, which exists, has fewer than `size` bytes left."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ValueError(f"no room for {_mega(size)} under {folder}: {_mega(free)} are free")


def check_memory(name: str, size: int) -> None:
    """Raises ValueError if no process here could hold the data of task `name`."""
    most = machine_memory()
    if size > most:
        raise ValueError(
            f"{name}: its data take {_mega(size)} of memory at least, and this machine has "
            f"{_mega(most)}; ask for fewer or shorter examples"
        )


def machine_memory() -> int:
    """Bytes that a process can hold here, swap included."""
    import psutil

    swap = psutil.swap_memory().total
    limits = [psutil.virtual_memory().total + swap]
    limits += [limit + swap for limit in _cgroup_limits()]
    own, _ = resource.getrlimit(resource.RLIMIT_AS)
    limits += [own] if own != resource.RLIM_INFINITY else []
    return min(limits)


def _cgroup_limits() -> Iterator[int]:
    """Limits of this process's control groups and their parents, versions 1 and 2."""
    with contextlib.suppress(OSError):
        for line in OWN_CGROUP.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            root = CGROUPS / "memory" if controllers else CGROUPS
            name = "memory.limit_in_bytes" if controllers else "memory.max"
            group = root / path.lstrip("/")
            for place in (group, *group.parents):
                with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
                    yield int((place / name).read_text())
                if place == root:
                    break


def _mega(size: int) -> str:
    return f"{size / 1e6:.3g} MB"

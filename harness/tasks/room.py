"""Whether there is room for data, asked before they are made."""

from __future__ import annotations

import shutil
from pathlib import Path


def check_disk(folder: Path, size: int) -> None:
    """Raises ValueError where the disk of `folder`, which exists, has not `size` bytes left."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ValueError(f"no room for {_mega(size)} under {folder}: {_mega(free)} are free")


def check_memory(name: str, size: int) -> None:
    """Raises ValueError where a machine of this size could never hold the data of task `name`."""
    import psutil

    most = psutil.virtual_memory().total + psutil.swap_memory().total
    if size > most:
        raise ValueError(
            f"{name}: its data take {_mega(size)} of memory at least, and this machine has "
            f"{_mega(most)}; ask for fewer or shorter examples"
        )


def _mega(size: int) -> str:
    return f"{size / 1e6:.3g} MB"

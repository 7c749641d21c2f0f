"""What a process finds out about its node. No torch, whose import takes seconds, but where Ray
counts GPUs, and then in a process of its own."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness import environment
from harness.plugins import Source
from harness.records.meeting import meet, store_of
from harness.tasks import data_folder
from harness.tasks.storage.capacity import machine_memory
from harness.tasks.storage.copies import Copy, DataSet, copy_of
from harness.tools.inputs import cut, is_address
from harness.training.host.commit import git_commit

from ..checksum import code
from .needs import Needs

PACKAGES = ("ray", "torch", "numpy")
PROBE_WAIT = 30.0  # seconds that torch may take to look at GPUs
_DRIVER = Path("/proc/driver/nvidia/version")

# Ray hides GPUs from a process that asks for none.
_PROBE = """
import json, torch
why = ""
try:
    torch.cuda.init()
except Exception as error:
    why = f"{type(error).__name__}: {error}"
all = [] if why else map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
found = [[one.name, one.total_memory] for one in all]
print(json.dumps({"cuda": torch.version.cuda, "found": found, "why": why}))
"""


def examine(
    place: str | None, mark: str, gpus: float, needs: Needs, data_dir: str | None
) -> dict[str, Any]:
    """Runs on a node: its facts, and whether the meeting place is seen and takes its mark. Its
    clock is read first and last. `gpus` is how many Ray counts here; `data_dir` is the driver's
    data folder, if it has one for all workers."""
    begun = time.time()
    folder = data_folder(data_dir)
    found = {
        **facts(),
        **what_is_here(needs, folder),
        "store": None if place is None else meet(place, mark),
        "free": free(None if place is None else store_of(place), folder),
        "memory": memory(),
        "gpus": probe() if gpus and needs.gpus else None,
    }
    return {**found, "clock": (begun, time.time())}


def facts() -> dict[str, Any]:
    """Versions, code and settings of this process."""
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "commit": git_commit(),
        "code": code(),
        "settings": {v.name: v.text() for v in environment.VARIABLES if v.forwarded and v.text()},
    }


def what_is_here(needs: Needs, data_dir: Path) -> dict[str, Any]:
    """The copies of the data, and the SHA-256 of the plug-ins' files in installed packages."""
    copies: dict[DataSet, Copy] = {one: copy_of(one, data_dir) for one in needs.data}
    return {"data": copies, "plugins": {one.module: installed(one) for one in needs.packages}}


def installed(source: Source) -> str | None:
    """SHA-256, hex, of a plug-in's file as it is installed here, which is not imported; None if it
    is not."""
    spec: importlib.machinery.ModuleSpec | None = None
    parts = source.module.split(".")
    with contextlib.suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(parts[0])
        for end in range(2, len(parts) + 1):
            folders = spec and spec.submodule_search_locations
            name = ".".join(parts[:end])
            spec = importlib.machinery.PathFinder.find_spec(name, folders) if folders else None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return None
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()


def free(store: str | None, data_dir: Path) -> dict[str, tuple[str, int]]:
    """Free bytes of the disks of store, data and temporary files, with their folders."""
    folders = {"data": data_dir, "temporary files": Path(tempfile.gettempdir())}
    if store is not None and not is_address(store):
        folders = {"the store": Path(store), **folders}
    found = {}
    for what, folder in folders.items():
        with contextlib.suppress(OSError):
            there = next(path for path in (folder, *folder.parents) if path.is_dir())
            found[what] = str(folder), shutil.disk_usage(there).free
    return found


def memory() -> tuple[int, int]:
    """Bytes that a process can hold here, and those that are free, by the system's estimate."""
    import psutil

    most = machine_memory()
    return most, min(most, psutil.virtual_memory().available + psutil.swap_memory().free)


def probe() -> dict[str, Any]:
    """The GPUs that torch can use here: [name, bytes] each, CUDA's version, the driver's, and why
    there are none."""
    variables = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES" or v}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env=variables,
            capture_output=True,
            check=True,
            timeout=PROBE_WAIT,
        )
        found = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        found = {"cuda": None, "found": [], "why": f"no answer within {PROBE_WAIT:.0f} s"}
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        words = (getattr(error, "stderr", b"") or str(error).encode()).decode(errors="replace")
        found = {"cuda": None, "found": [], "why": words.strip().rpartition("\n")[2]}
    return {**found, "why": cut(found["why"], 200), "driver": _driver()}


def names_of(gpus: Iterable[tuple[str, int]]) -> str:
    """Kinds of GPUs as text: `NVIDIA H100, 80 GB`."""
    kinds = dict.fromkeys(f"{name}, {size / 1e9:.0f} GB" for name, size in gpus)
    return " and ".join(kinds)


def _driver() -> str | None:
    with contextlib.suppress(OSError):
        found = re.search(r"Kernel Module.*?(\d+\.\d+(\.\d+)?)", _DRIVER.read_text())
        return found[1] if found else None
    return None


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


__all__ = ["PACKAGES", "examine", "facts", "free", "installed", "memory", "names_of", "probe"]

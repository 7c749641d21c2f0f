"""What a trial runs on: device, threads, versions, and the manifest that records them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from harness import environment
from harness.tools.inputs import cut
from harness.training.host.commit import git_commit
from harness.training.host.process import WORKSPACE


def pick_device() -> torch.device:
    """`HARNESS_DEVICE` if set, else the GPU if there is one, else the CPU.

    Raises:
        ValueError: the device named does not exist here.
    """
    name = environment.DEVICE.get() or ("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"HARNESS_DEVICE is {cut(name)}, but no GPU can be used here")
    device = torch.device(name)
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise ValueError(
            f"HARNESS_DEVICE is {cut(name)}; there are {torch.cuda.device_count()} GPUs"
        )
    return device


def thread_count() -> int:
    """`HARNESS_THREADS`, default 1: never the number of free cores, since sums depend on it."""
    return environment.THREADS.get()


def prepare(device: torch.device, threads: int) -> None:
    """Fix the threads, and on a GPU the algorithms, so that a run is repeatable bit for bit; reset
    the peak of memory."""
    torch.set_num_threads(threads)
    if device.type == "cuda":
        os.environ.setdefault(WORKSPACE, ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        # It would also fill all allocated memory with NaN, which our code never reads.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.cuda.reset_peak_memory_stats(device)
    else:
        give_memory_back()
        with contextlib.suppress(OSError):  # resets the peak if the kernel allows it
            Path("/proc/self/clear_refs").write_text("5")


def give_memory_back() -> None:
    """Return memory freed by earlier trials to the system, if glibc can.

    Otherwise their peak, which the C library keeps for reuse, would count as this trial's.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def peak_memory_bytes(device: torch.device) -> int:
    """Peak bytes since `prepare`: of the device's allocator, or of this process on a CPU.

    On a CPU that is the whole resident memory: it includes the interpreter, the libraries (about
    0.4 GB) and tasks kept for the next trial, but not what earlier trials freed.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def gpu_memory(device: torch.device) -> int | None:
    """Bytes of a GPU; None for the CPU."""
    if device.type != "cuda":
        return None
    return torch.cuda.get_device_properties(device).total_memory


def device_name(device: torch.device) -> str:
    """The model name of the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return cpu_name()


@cache
def cpu_name() -> str:
    """The processor's model name, if the system knows it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


# The parts of a manifest that decide the bits of a result.
DECIDING = ("identity", "numpy_version", "data_fingerprint", "backends")


def difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """The first part that decides bits and differs between two manifests: (name, then, now).

    Parts that an older manifest lacks, besides its `identity`, count as equal.
    """
    one, two = then["identity"], now["identity"]
    for key in one | two:
        if one.get(key) != two.get(key):
            return key, one.get(key), two.get(key)
    for key in DECIDING[1:]:
        if key in then and key in now:
            before, here = _plain(then[key]), _plain(now[key])
            if before != here:
                return key, before, here
    return None


def _plain(part: Any) -> Any:
    """The names of backends: the wording of why they were chosen may change."""
    return ",".join(choice["name"] for choice in part) if isinstance(part, list) else part


def manifest(device: torch.device, threads: int) -> dict[str, Any]:
    """Versions and machine, as JSON. `identity` holds what decides the bits."""
    import numpy

    return {
        "identity": {
            "device": device_name(device),
            "threads": threads,
            "torch_version": torch.__version__,
        },
        "git_commit": git_commit(),
        "python_version": platform.python_version(),
        "numpy_version": numpy.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
    }

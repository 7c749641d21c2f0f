"""Peak memory of a training step, each case in a process of its own.

`python -m harness.bench.step_memory` reads cases as JSON, forks a child for each
(so that the libraries are imported once) and prints the peaks as JSON.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from .shapes import Shape

if TYPE_CHECKING:
    from .timed_work import TrainingStep


@dataclass(frozen=True)
class Case:
    """One training step: a shape at one size, a backend, what the backend remembers, and whether
    forward and backward run as a CUDA graph. With `gramians`, a decomposition weighted by them on
    so many `batches`, in the place of the step."""

    shape: Shape
    state_dim: int
    backend: str
    remember: str = "auto"
    graph: bool = False
    gramians: str | None = None
    batches: int = 0


def peaks(cases: Sequence[Case], device: str, threads: int) -> list[int | None]:
    """Peak bytes of each case's training: model, gradients, moments, batch and activations.

    On a CPU this is the high-water mark of the resident set, less what was resident after a short
    step of the same backend; on a GPU it is the allocator's peak. None if a child failed (most
    likely out of memory).
    """
    asked = {"cases": [asdict(case) for case in cases], "device": device, "threads": threads}
    done = subprocess.run(
        [sys.executable, "-m", "harness.bench.step_memory"],
        input=json.dumps(asked),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def serve(asked: dict[str, Any]) -> list[int | None]:
    """Fork a child for each case."""
    import_all({case["backend"] for case in asked["cases"]})
    return [_in_child(case, asked["device"], asked["threads"]) for case in asked["cases"]]


def import_all(backends: set[str]) -> None:
    """Import once what every child needs, including what torch imports only with an optimizer.

    Nothing here is large enough to start threads, and nothing touches a GPU: neither survives a
    fork.
    """
    import torch

    from harness.bench.timed_work import TrainingStep
    from harness.models.scans.choice import load_backend

    importlib.import_module("harness.bench.weighted_work")
    smallest = Shape("smallest", "", 1, 1, 1, (1,), inputs=1)
    TrainingStep(smallest.model(1), smallest.info, 1, torch.device("cpu"))
    for backend in backends:
        with contextlib.suppress(ImportError):  # its own children fail and report it
            load_backend(backend)


def _in_child(case: dict[str, Any], device: str, threads: int) -> int | None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.write(write, json.dumps(peak(case, device, threads)).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return json.loads(said) if status == 0 and said else None


def peak(case: dict[str, Any], name: str, threads: int) -> int:
    """Peak bytes, measured in this process, which should have done nothing else."""
    import torch

    from harness.bench.timed_work import SHORT, TrainingStep
    from harness.training.host.machine import peak_memory_bytes, prepare

    shape = Shape(**{**case["shape"], "state_dims": tuple(case["shape"]["state_dims"])})
    n, device = case["state_dim"], torch.device(name)
    spec = shape.model(n, case["backend"], case["remember"])
    prepare(device, threads)
    short = TrainingStep(spec, replace(shape, length=SHORT).info, 1, device)
    _look(short, case)  # before a step, after which the one example may have no gradient left
    short()
    del short
    return_freed_memory()
    prepare(device, threads)  # resets the peak
    before = 0 if device.type == "cuda" else resident_bytes()
    step = TrainingStep(spec, shape.info, shape.batch, device, case["graph"])
    step.warm()  # so that the long step has gradients and moments, as all but the first do
    if case["gramians"] is None:
        step()
    _look(step, case)
    return max(0, peak_memory_bytes(device) - before)


def _look(step: TrainingStep, case: dict[str, Any]) -> None:
    """The decomposition, if that is the case."""
    from harness.bench.weighted_work import Calibrated

    if case["gramians"] is not None:
        Calibrated(step, case["batches"]).decompose(case["gramians"])


def return_freed_memory() -> None:
    """Return memory that the warm-up freed to the system, so that it cannot hide the peak."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # other C libraries have no such call
        ctypes.CDLL(None).malloc_trim(0)


def resident_bytes() -> int:
    """Bytes that this process has in memory now."""
    import psutil

    return psutil.Process().memory_info().rss


if __name__ == "__main__":
    print(json.dumps(serve(json.load(sys.stdin))))

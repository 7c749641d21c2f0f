"""Whose fault an error is: the machine's, which is retried, or the trial's, which is a result.

This is the only place that decides. Errors of both kinds become one line that names its source.
"""

from __future__ import annotations

import errno
import traceback
from pathlib import Path

import torch

HARNESS = Path(__file__).resolve().parents[2]
# Messages of `RuntimeError`s about devices, memory and threads that have no class of their own.
MACHINE_SIGNS = (
    "CUDA error", "CUBLAS_STATUS", "cuBLAS", "cuDNN", "NCCL", "out of memory", "bad_alloc",
    "can't allocate memory", "can't start new thread",
)  # fmt: skip


# `OSError`s that another attempt would meet again. A missing file may still appear on a shared
# disk, and a full disk may be cleared.
LASTING = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ELOOP,
    errno.ENAMETOOLONG,
}  # fmt: skip


class Diverged(Exception):
    """A NaN or infinite loss or metric, or a broken system: a result, not a fault."""


def is_fault(error: BaseException) -> bool:
    """Whether the machine is to blame rather than the trial: memory, device, files.

    Such an error never becomes a trial's result.
    """
    if isinstance(error, MemoryError | OSError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in MACHINE_SIGNS)


def is_passing(error: BaseException) -> bool:
    """Whether it is a fault that another attempt may avoid."""
    return is_fault(error) and not (isinstance(error, OSError) and error.errno in LASTING)


def described(error: BaseException) -> str:
    """The error in one line, with the line of our code that raised it.

    A `ValueError` needs no class name; any other error starts with its own.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[0] if lines else "no message"
    if type(error) is not ValueError and not _is_ours(type(error)):
        said = f"{type(error).__name__.lstrip('_')}: {said}"
    where = _where(error)
    return f"{said} ({where})" if where else said


def _is_ours(kind: type) -> bool:
    return issubclass(kind, ValueError) and kind.__module__.split(".")[0] == "harness"


def _where(error: BaseException) -> str | None:
    """`harness/reduction/hankel.py:40`: the innermost line of our code, or else of any."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return None
    inside = [f for f in frames if Path(f.filename).is_relative_to(HARNESS)]
    frame = (inside or frames)[-1]
    path = Path(frame.filename)
    shown = path.relative_to(HARNESS.parent) if inside else path
    return f"{shown}:{frame.lineno}"

"""The recurrence of a selective layer (Mamba-1): many real diagonal systems, one for each channel,
whose steps, inputs and outputs change with time.

`selective_scan` computes, in every channel d, h = 0 before the first step,

    h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t,    y_t = <C_t, h_t>

with B_t and C_t common to all channels (Gu and Dao 2023, arXiv 2312.00752, with B by Euler, as
their code has it). Four backends:

- `reference`: step by step under autograd, which keeps every state;
- `parallel`: slabs of steps, in each a scan of log depth, in PyTorch alone;
- `scan`: the same slabs, by loops that numba compiles for a CPU;
- `triton`: step by step inside kernels for a GPU.

The latter three keep the states before each slab or chunk, and rebuild the others in the backward
pass.
"""

from __future__ import annotations

from typing import Any

import torch

from ..choice import Choice, triton_refusal
from . import blocks, slabs, triton_scan

try:
    from . import compiled as _compiled
except (ImportError, OSError) as error:  # no numba, or LLVM cannot be loaded
    MISSING: str | None = str(error)
else:
    MISSING = None

BACKENDS = ("reference", "parallel", "scan", "triton")


def choose(backend: str, *, device: torch.device | str) -> Choice:
    """The backend on this device, and why.

    Raises:
        ValueError: an unknown backend, or one asked for by name that cannot run here; says why.
    """
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"backend is {backend!r}; use auto, {', '.join(BACKENDS)}")
    device = torch.device(device)
    refusals = {"scan": _refusal, "triton": triton_refusal}
    refusal = refusals[backend](device) if backend in refusals else None
    if refusal:
        raise ValueError(f"backend {backend} cannot run here: {refusal}")
    if backend != "auto":
        return Choice(backend, "asked for by name")
    fastest = "triton" if device.type == "cuda" else "scan"
    refusal = refusals[fastest](device)
    if refusal:
        return Choice("parallel", f"{fastest} cannot run here: {refusal}")
    return Choice(fastest, "a GPU: one kernel" if fastest == "triton" else "a CPU: compiled loops")


def selective_scan(
    x: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    backend: str = "auto",
) -> torch.Tensor:
    """y (batch, length, D) real from x (batch, length, D) real, in the precision of A.

    Args:
        x: the channels' inputs.
        dt: (batch, length, D), the time steps, not negative.
        A: (D, N), negative rates.
        B, C: (batch, length, N).
        backend: one of `BACKENDS`, or "auto" to let `choose` decide.

    Raises:
        ValueError: an unknown backend, or one that cannot run on this device; says why.
    """
    name = choose(backend, device=x.device).name
    with torch.autocast(x.device.type, enabled=False):  # a recurrence is always in float32
        x, dt, B, C = (one.to(A.dtype) for one in (x, dt, B, C))
        if name == "reference":
            return reference(x, dt, A, B, C)
        if name == "triton":
            return triton_scan.run(x, dt, A, B, C)
        return slabs.run(x, dt, A, B, C, _compiled if name == "scan" else blocks)


def reference(x: Any, dt: Any, A: Any, B: Any, C: Any) -> torch.Tensor:
    """The recurrence as it is written: slow, any precision, any device; what the others equal."""
    h = x.new_zeros(len(x), *A.shape)
    outputs = []
    for x_t, dt_t, B_t, C_t in zip(*(one.unbind(1) for one in (x, dt, B, C)), strict=True):
        h = torch.exp(dt_t[:, :, None] * A) * h + (dt_t * x_t)[:, :, None] * B_t[:, None]
        outputs.append((h * C_t[:, None]).sum(-1))
    return torch.stack(outputs, 1)


def warm_up() -> None:
    """Compile the loops, or load them from their cache: no training step should see it."""
    if MISSING is not None:
        return
    ones = torch.ones(1, 3, 2)
    selective_scan(ones, ones, -torch.ones(2, 2, requires_grad=True), ones, ones).sum().backward()


def _refusal(device: torch.device) -> str | None:
    if device.type != "cpu":
        return f"its loops are compiled for a CPU, not for {device.type}"
    return MISSING


__all__ = ["BACKENDS", "Choice", "choose", "reference", "selective_scan", "warm_up"]

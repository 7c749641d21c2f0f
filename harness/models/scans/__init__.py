"""The linear recurrence of an LRU layer over a whole sequence: one function, several backends.

`lru_scan` computes y_k = Re(C h_k) with h_k = diag(Lambda) h_{k-1} + B u_k, h = 0 before the first
input, Lambda = exp(-nu + i theta). `choose` says which backend that would be, and why.
"""

from __future__ import annotations

import torch

from .choice import BACKENDS, Choice, choose, load_backend
from .powers import powers


def lru_scan(
    nu: torch.Tensor,
    theta: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    u: torch.Tensor,
    *,
    backend: str = "auto",
    remember: str = "auto",
) -> torch.Tensor:
    """y (batch, length, H) real from u (batch, length, H) real.

    Args:
        nu: (N,) real, -log|Lambda| > 0.
        theta: (N,) real, the phases in radians.
        B: (N, H) complex, gamma included.
        C: (H, N) complex.
        backend: one of `BACKENDS`, or "auto" to let `choose` decide from shapes and device.
        remember: what the backward pass finds of the states, where a backend has them at all:
            "states", or "boundaries" of blocks from which it rebuilds them, or "auto".

    Raises:
        ValueError: an unknown backend, or one that cannot run on this device; says why.
    """
    batch, length, width = u.shape
    choice = choose(
        backend,
        width=width,
        state_dim=nu.shape[0],
        length=length,
        batch=batch,
        device=u.device,
    )
    module, kind = load_backend(choice.name), u.device.type
    if torch.is_autocast_enabled(kind) and choice.name != "triton":
        # The recurrence is always in float32; only triton keeps its products apart from it.
        with torch.autocast(kind, enabled=False):
            return module.run(nu, theta, B, C, u.float(), remember)
    return module.run(nu, theta, B, C, u, remember)


def warm_up() -> None:
    """Compile the loops of a CPU, or load them from their cache: no training step should see it."""
    for backend in ("toeplitz", "scan"):
        nu, B = torch.ones(2, requires_grad=True), torch.ones(2, 2, dtype=torch.complex64)
        u = torch.ones(2, 100, 2)
        lru_scan(nu, torch.ones(2), B, B, u, backend=backend).sum().backward()


__all__ = ["BACKENDS", "Choice", "choose", "lru_scan", "powers", "warm_up"]

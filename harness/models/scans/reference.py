"""The recurrence as it is written: slow, any precision, any device; what the others must equal."""

from __future__ import annotations

import torch

from .powers import polar


def run(
    nu: torch.Tensor,
    theta: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    u: torch.Tensor,
    remember: str = "auto",
) -> torch.Tensor:
    """`lru_scan` step by step under autograd, which keeps every state whatever `remember` says."""
    lam = polar(torch.exp(-nu), theta)
    h = torch.zeros(u.shape[0], len(lam), dtype=B.dtype, device=u.device)
    outputs = []
    for step in u.unbind(1):
        h = lam * h + step.to(B.dtype) @ B.mT
        outputs.append((h @ C.mT).real)
    return torch.stack(outputs, dim=1)

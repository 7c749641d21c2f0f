"""Powers of the eigenvalues."""

from __future__ import annotations

import torch


def powers(nu: torch.Tensor, theta: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """Lambda^k for every k in `steps` (T,): (T, N) complex, Lambda = exp(-nu + i theta).

    From (nu, theta) directly: exp(k (-nu + i theta)) loses less precision than repeated products.
    """
    k = steps[:, None].to(nu.dtype)
    return torch.polar(torch.exp(-nu * k), theta * k)

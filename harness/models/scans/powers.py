"""Powers of the eigenvalues."""

from __future__ import annotations

import torch


def powers(nu: torch.Tensor, theta: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """Lambda^k for every k in `steps` (T,): (T, N) complex, Lambda = exp(-nu + i theta).

    From (nu, theta) directly: exp(k (-nu + i theta)) loses less precision than repeated products.
    """
    k = steps[:, None].to(nu.dtype)
    return polar(torch.exp(-nu * k), theta * k)


def polar(magnitude: torch.Tensor, phase: torch.Tensor) -> torch.Tensor:
    """`torch.polar`, with 0 in the place of magnitudes below the normal numbers, where its gradient
    is none: it divides by a modulus that has underflowed."""
    normal = magnitude >= torch.finfo(magnitude.dtype).tiny
    return torch.polar(torch.where(normal, magnitude, 0.0), phase)

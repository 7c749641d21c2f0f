"""The published algorithm: a log-depth parallel scan of (a, b) pairs over all complex states.

What `jax.lax.associative_scan` does in the official code (Blelloch 1990, section 1.4): combine
neighbours, scan the half, fill in the rest. Every speed table is against this one.
"""

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
    """`lru_scan` under autograd, which keeps all levels of the scan whatever `remember` says."""
    lam = polar(torch.exp(-nu), theta)
    drive = torch.complex(u @ B.real.mT, u @ B.imag.mT)
    _, h = scan(lam.expand(u.shape[1], -1), drive)
    return h.real @ C.real.mT - h.imag @ C.imag.mT


def scan(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Inclusive scan of (a, b) o (c, d) = (a c, c b + d): a (length, N), b (batch, length, N)."""
    length = a.shape[0]
    if length == 1:
        return a, b
    a_even, a_odd = a[: length - 1 : 2], a[1::2]
    b_even, b_odd = b[:, : length - 1 : 2], b[:, 1::2]
    a_scanned, b_scanned = scan(a_even * a_odd, a_odd * b_even + b_odd)
    rest = (length - 1) // 2  # even positions after the first
    a_rest = a_scanned[:rest] * a[2::2]
    b_rest = a[2::2] * b_scanned[:, :rest] + b[:, 2::2]
    a_all, b_all = torch.empty_like(a), torch.empty_like(b)
    a_all[0], b_all[:, 0] = a[0], b[:, 0]
    a_all[1::2], b_all[:, 1::2] = a_scanned, b_scanned
    a_all[2::2], b_all[:, 2::2] = a_rest, b_rest
    return a_all, b_all

"""The linear recurrence of an LRU layer over a whole sequence, without a loop over its steps.

Both forms compute y_k = Re(C h_k) with h_k = diag(Lambda) h_{k-1} + B u_k, h_0 = 0 before the
first input. Powers come from (nu, theta) directly: exp(k (-nu + i theta)) loses less precision
than repeated products.
"""

from __future__ import annotations

import torch
from torch.nn.functional import pad

# A block of T steps costs 2 T H^2 flops a token for its Toeplitz matrix against 8 N H for the
# state form, and T H rows of kernel; past this width the state form wins on a CPU.
TOEPLITZ_WIDEST = 64
TOEPLITZ_STEPS = 16
STATE_STEPS = 32


def powers(nu: torch.Tensor, theta: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """Lambda^k for every k in `steps` (T,): (T, N) complex, Lambda = exp(-nu + i theta)."""
    k = steps[:, None].to(nu.dtype)
    return torch.polar(torch.exp(-nu * k), theta * k)


def lru_scan(
    nu: torch.Tensor, theta: torch.Tensor, B: torch.Tensor, C: torch.Tensor, u: torch.Tensor
) -> torch.Tensor:
    """y (batch, length, H) real from u (batch, length, H) real.

    Args:
        nu: (N,) real, -log|Lambda| > 0.
        theta: (N,) real, the phases in radians.
        B: (N, H) complex, gamma included.
        C: (H, N) complex.
    """
    form = toeplitz_scan if u.shape[-1] <= TOEPLITZ_WIDEST else state_scan
    return form(nu, theta, B, C, u)


def toeplitz_scan(
    nu: torch.Tensor, theta: torch.Tensor, B: torch.Tensor, C: torch.Tensor, u: torch.Tensor
) -> torch.Tensor:
    """`lru_scan` in blocks of T steps: inside a block the outputs are one block-Toeplitz product,
    and only the states at the block boundaries, (batch, length / T, N), ever exist."""
    batch, length, width = u.shape
    T = min(TOEPLITZ_STEPS, length)
    blocks = -(-length // T)
    k = torch.arange(T + 1, device=u.device)
    lam = powers(nu, theta, k)
    kernel = (C[None] @ (lam[:T, :, None] * B)).real  # (T, H, H)
    lag = k[:T, None] - k[None, :T]
    toeplitz = torch.where((lag >= 0)[:, :, None, None], kernel[lag.clamp_min(0)], 0.0)
    toeplitz = toeplitz.permute(1, 3, 0, 2).reshape(T * width, T * width)
    chunks = pad(u, (0, 0, 0, blocks * T - length)).reshape(batch, blocks, T * width)
    y = chunks @ toeplitz
    if blocks > 1:
        into = (lam[:T].flip(0)[:, :, None] * B).permute(0, 2, 1).reshape(T * width, -1)
        added = torch.complex(chunks @ into.real, chunks @ into.imag)
        before = carry(lam[T], added)
        out = (lam[1:, None, :] * C).reshape(T * width, -1).mT
        y = y + before.real @ out.real - before.imag @ out.imag
    return y.reshape(batch, blocks * T, width)[:, :length]


def state_scan(
    nu: torch.Tensor, theta: torch.Tensor, B: torch.Tensor, C: torch.Tensor, u: torch.Tensor
) -> torch.Tensor:
    """`lru_scan` through all states: blocks of steps advance together, then take their carry."""
    batch, length, _ = u.shape
    T = min(STATE_STEPS, length)
    blocks = -(-length // T)
    drive = torch.complex(u @ B.real.mT, u @ B.imag.mT)
    drive = pad(drive, (0, 0, 0, blocks * T - length)).reshape(batch, blocks, T, -1)
    lam = powers(nu, theta, torch.arange(T + 1, device=u.device))
    states, h = [], torch.zeros_like(drive[:, :, 0])
    for step in drive.unbind(2):
        h = lam[1] * h + step
        states.append(h)
    h = torch.stack(states, dim=2)
    if blocks > 1:
        h = h + carry(lam[T], h[:, :, -1])[:, :, None] * lam[1:]
    h = h.reshape(batch, blocks * T, -1)[:, :length]
    return h.real @ C.real.mT - h.imag @ C.imag.mT


def carry(step: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
    """States before each block: (batch, blocks, N) from what each block adds, Lambda^T = step."""
    h = torch.zeros_like(added[:, 0])
    before = [h]
    for block in added.unbind(1)[:-1]:
        h = step * h + block
        before.append(h)
    return torch.stack(before, dim=1)


def recurrence(
    nu: torch.Tensor, theta: torch.Tensor, B: torch.Tensor, C: torch.Tensor, u: torch.Tensor
) -> torch.Tensor:
    """`lru_scan` step by step: slow, any precision; what the other forms are checked against."""
    lam = torch.polar(torch.exp(-nu), theta)
    h = torch.zeros(u.shape[0], len(lam), dtype=B.dtype, device=u.device)
    outputs = []
    for step in u.unbind(1):
        h = lam * h + step.to(B.dtype) @ B.mT
        outputs.append((h @ C.mT).real)
    return torch.stack(outputs, dim=1)

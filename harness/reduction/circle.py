"""Distances of eigenvalues to the unit circle, to full precision where the difference cancels."""

from __future__ import annotations

import torch

CLOSE = 2.0**-26  # below it, what double precision leaves of 1 - x has lost half of its digits
SPLIT = 2.0**27 + 1.0  # Veltkamp's, of 53 bits into two times 26


def gaps(lam: torch.Tensor, largest: float) -> torch.Tensor:
    """1 - l_i conj(l_j), (..., N, N) complex128, differentiable; `largest` is the largest |l|."""
    plain = 1.0 - lam[..., :, None] * lam[..., None, :].conj()
    if 1.0 - largest >= CLOSE:
        return plain
    exact = _gap(lam[..., :, None], lam[..., None, :])
    return torch.where(plain.abs() < CLOSE, plain + (exact - plain).detach(), plain)


def distances(lam: torch.Tensor) -> torch.Tensor:
    """1 - |l|, float64, of eigenvalues within the unit circle."""
    magnitude = lam.abs()
    plain = 1.0 - magnitude
    close = plain < CLOSE
    if not bool(close.any()):  # half of what a small system's truncation takes
        return plain
    return torch.where(close, _gap(lam, lam).real / (1.0 + magnitude), plain)


def _gap(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """1 - x conj(y) of complex128 tensors with entries of at most about 1, as if it were computed
    with twice the digits and then rounded (Dekker's product, Knuth's sum)."""
    a, b, c, d = x.real, x.imag, y.real, y.imag
    (ac, ac_rest), (bd, bd_rest) = _product(a, c), _product(b, d)
    real, rest = _sum(torch.ones_like(ac), -ac)
    real, more = _sum(real, -bd)
    real = real + (rest + more - ac_rest - bd_rest)
    (ad, ad_rest), (bc, bc_rest) = _product(a, d), _product(b, c)
    imag, rest = _sum(ad, -bc)
    return torch.complex(real, imag + (rest + ad_rest - bc_rest))


def _product(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x y rounded, and what rounding took from it."""
    found = x * y
    (high_x, low_x), (high_y, low_y) = _halves(x), _halves(y)
    rest = high_x * high_y - found + high_x * low_y + low_x * high_y + low_x * low_y
    return found, rest


def _halves(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    large = SPLIT * x
    high = large - (large - x)
    return high, x - high


def _sum(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x + y rounded, and what rounding took from it."""
    found = x + y
    of_y = found - x
    return found, (x - (found - of_y)) + (y - of_y)

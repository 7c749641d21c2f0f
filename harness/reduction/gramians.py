"""Gramians of a diagonal discrete-time system, their square roots, and the energy rank.

The system is h_k = diag(eigenvalues) h_{k-1} + B u_k, y_k = Re(C h_k) (+ D u_k, which no
Gramian sees). Everything is computed in complex128 on the device of the input.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

Array = Any  # a numpy array or a torch tensor; the answer is of the same family


class UnusableSystem(ValueError):
    """A system without finite Gramians: NaN or infinite entries, unstable, or far too large."""


def to_complex128(*arrays: Array) -> tuple[list[torch.Tensor], bool]:
    """The arrays as complex128 tensors on their device, and whether numpy went in."""
    from_numpy = not any(isinstance(a, torch.Tensor) for a in arrays)
    return [torch.as_tensor(a).to(torch.complex128) for a in arrays], from_numpy


def give_back(tensor: torch.Tensor, as_numpy: bool) -> Array:
    """A tensor, or its numpy array when numpy went in."""
    return tensor.detach().cpu().numpy() if as_numpy else tensor


def check_system(eigenvalues: torch.Tensor, B: torch.Tensor, C: torch.Tensor) -> None:
    """Raise `ValueError` unless (..., N), (..., N, H), (..., H', N) fit, `UnusableSystem` unless
    all is finite and |eigenvalue| < 1."""
    n = eigenvalues.shape[-1] if eigenvalues.ndim else 0
    if n == 0 or B.ndim < 2 or C.ndim < 2 or B.shape[-2] != n or C.shape[-1] != n:
        shapes = f"{tuple(eigenvalues.shape)}, {tuple(B.shape)}, {tuple(C.shape)}"
        raise ValueError(
            f"eigenvalues, B, C must be (N,), (N, H), (H, N) with N >= 1, not {shapes}"
        )
    finite = all(bool(torch.isfinite(torch.view_as_real(a)).all()) for a in (eigenvalues, B, C))
    if not finite:
        raise UnusableSystem("eigenvalues, B and C must be finite")
    largest = float(eigenvalues.abs().max())
    if largest >= 1.0:
        raise UnusableSystem(f"every |eigenvalue| must be below 1, the largest is {largest:.17g}")


def gramians(eigenvalues: Array, B: Array, C: Array) -> tuple[Array, Array]:
    """Controllability and observability Gramians (P, Q), complex128, each (..., N, N).

    P_ij = (B B^H)_ij / (1 - l_i conj(l_j)) and Q_ij = (C^H C)_ij / (1 - conj(l_i) l_j): the
    exact solutions of P = A P A^H + B B^H and Q = A^H Q A + C^H C for a diagonal A.

    Args:
        eigenvalues: (..., N) complex, all of magnitude below 1.
        B: (..., N, H) complex, the input normalisation gamma included.
        C: (..., H, N) complex.

    Raises:
        ValueError: shapes that do not fit.
        UnusableSystem: (a ValueError) non-finite entries, an unstable eigenvalue, Gramians
            beyond double precision.
    """
    (lam, b, c), as_numpy = to_complex128(eigenvalues, B, C)
    P, Q = gramians_of(lam, b, c)
    return give_back(P, as_numpy), give_back(Q, as_numpy)


def gramians_of(
    lam: torch.Tensor, b: torch.Tensor, c: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`gramians` of complex128 tensors."""
    check_system(lam, b, c)
    gap = 1.0 - lam[..., :, None] * lam[..., None, :].conj()
    P, Q = (b @ b.mH) / gap, (c.mH @ c) / gap.conj()
    # Finite systems can still overflow; LAPACK's answer to that is no ValueError.
    if not all(bool(torch.isfinite(torch.view_as_real(gramian)).all()) for gramian in (P, Q)):
        raise UnusableSystem("the Gramians overflow double precision")
    return P, Q


def square_root(gramian: torch.Tensor) -> torch.Tensor:
    """A factor R with R R^H = gramian, negative eigenvalues (rounding) clipped to zero.

    The eigendecomposition is that of the matrix scaled to a unit diagonal: its rounding is then
    relative to each state, and a nearly uncontrollable one is not lost beside a strong one.
    """
    scale = gramian.diagonal(dim1=-2, dim2=-1).real.sqrt()
    scale = torch.where(scale > 0, scale, 1.0)
    unit = gramian / (scale[..., :, None] * scale[..., None, :])
    values, vectors = torch.linalg.eigh(unit)
    root = values.clamp_min(0.0).sqrt()
    return scale[..., :, None] * vectors * root[..., None, :]


def square_roots(
    lam: torch.Tensor, b: torch.Tensor, c: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors (R, L) with P = R R^H and Q = L L^H."""
    P, Q = gramians_of(lam, b, c)
    return square_root(P), square_root(Q)


def energy_rank(hsv: Array, tau: float) -> int:
    """The smallest r whose r largest Hankel singular values hold (1 - tau) of their plain sum.

    Args:
        hsv: (N,) non-negative, in any order.
        tau: the fraction of Hankel energy to discard, 0 <= tau < 1; 0 keeps all N.

    Raises:
        ValueError: an empty spectrum, NaN, infinite or negative values, a zero sum, a tau
            outside [0, 1).
    """
    values = np.asarray(hsv.detach().cpu() if isinstance(hsv, torch.Tensor) else hsv, np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"a spectrum must be a non-empty vector, not of shape {values.shape}")
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("Hankel singular values must be finite and not negative")
    if not 0.0 <= tau < 1.0:
        raise ValueError(f"tau must be in [0, 1), not {tau}")
    total = values.sum()
    if total == 0.0:
        raise ValueError("the Hankel singular values sum to zero: nothing to keep")
    if tau == 0.0:
        return values.size
    kept = np.cumsum(np.sort(values)[::-1]) / total
    return min(int(np.searchsorted(kept, 1.0 - tau)) + 1, values.size)

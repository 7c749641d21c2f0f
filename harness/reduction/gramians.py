"""Gramians of a diagonal discrete-time system, their square roots, and the energy rank.

The system is h_k = diag(eigenvalues) h_{k-1} + B u_k, y_k = Re(C h_k) (+ D u_k, which no
Gramian sees). Everything is computed in complex128 on the device of the input.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from harness.tools.inputs import cut

from .arrays import Array, give_back, to_complex128, to_numpy
from .circle import gaps

# Below it, a whole Gramian is so near the smallest double that its entries lose digits.
UNDERFLOW = torch.finfo(torch.float64).tiny / torch.finfo(torch.float64).eps


class UnusableSystem(ValueError):
    """A system without finite Gramians: NaN or infinite entries, unstable, or far too large."""


def check_shapes(eigenvalues: torch.Tensor, B: torch.Tensor, C: torch.Tensor) -> None:
    """Raise `ValueError` unless (..., N), (..., N, H), (..., H', N) fit."""
    n = eigenvalues.shape[-1] if eigenvalues.ndim else 0
    shapes = f"{tuple(eigenvalues.shape)}, {tuple(B.shape)}, {tuple(C.shape)}"
    if not eigenvalues.numel() or B.ndim < 2 or C.ndim < 2 or B.shape[-2] != n or C.shape[-1] != n:
        raise ValueError(
            f"eigenvalues, B, C must be (N,), (N, H), (H, N) with N >= 1, not {shapes}"
        )
    try:
        torch.broadcast_shapes(eigenvalues.shape[:-1], B.shape[:-2], C.shape[:-2])
    except RuntimeError:
        raise ValueError(
            f"the leading dimensions of eigenvalues, B, C must agree, not be those of {shapes}"
        ) from None


def check_system(eigenvalues: torch.Tensor, B: torch.Tensor, C: torch.Tensor) -> float:
    """The largest |eigenvalue|. Raises as `check_shapes`, and `UnusableSystem` unless all is
    finite and |eigenvalue| < 1."""
    check_shapes(eigenvalues, B, C)
    finite = all(bool(torch.isfinite(torch.view_as_real(a)).all()) for a in (eigenvalues, B, C))
    if not finite:
        raise UnusableSystem("eigenvalues, B and C must be finite")
    largest = float(eigenvalues.detach().abs().max())
    if largest >= 1.0:
        raise UnusableSystem(f"every |eigenvalue| must be below 1, the largest is {largest:.17g}")
    return largest


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
    gap = gaps(lam, check_system(lam, b, c))
    P, Q = (b @ b.mH) / gap, (c.mH @ c) / gap.conj()
    # Finite systems can still overflow; LAPACK's answer to that is no ValueError.
    if not all(bool(torch.isfinite(torch.view_as_real(gramian)).all()) for gramian in (P, Q)):
        raise UnusableSystem("the Gramians overflow double precision")
    check_range(gap, (P, b), (Q, c.mT))
    return P, Q


def check_range(gap: torch.Tensor, *gramians: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Raise `UnusableSystem` for an eigenvalue that rounding alone had put within the unit circle,
    or where a Gramian, given with its factor (..., N, H), vanishes and the factor does not."""
    if float(gap.detach().diagonal(dim1=-2, dim2=-1).real.amin()) <= 0.0:
        raise UnusableSystem("every |eigenvalue| must be below 1, the largest is not")
    for gramian, factor in gramians:
        largest = gramian.detach().diagonal(dim1=-2, dim2=-1).real.amax(-1)
        if float(largest.amin()) < UNDERFLOW:
            given = (factor.detach() != 0).flatten(-2).any(-1)
            if bool((given & (largest < UNDERFLOW)).any()):
                raise UnusableSystem("the Gramians underflow double precision: rescale B or C")


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
    values = _spectrum(hsv)
    if not _is_share(tau):
        raise ValueError(f"tau must be in [0, 1), not {cut(str(tau))}")
    with np.errstate(over="ignore"):
        total = values.sum()
    if not np.isfinite(total):
        values = values / values.max()
        total = values.sum()
    if total == 0.0:
        raise ValueError("the Hankel singular values sum to zero: nothing to keep")
    if tau == 0.0:
        return values.size
    kept = np.cumsum(np.sort(values)[::-1]) / total
    return min(int(np.searchsorted(kept, 1.0 - tau)) + 1, values.size)


def _spectrum(hsv: Array) -> np.ndarray:
    try:
        values = to_numpy(hsv)
    except ValueError as error:
        raise ValueError(f"a spectrum must be a non-empty vector: {error}") from None
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"a spectrum must be a non-empty vector, not of shape {values.shape}")
    if values.dtype.kind == "c":
        raise ValueError("Hankel singular values must be real")
    values = values.astype(np.float64)
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("Hankel singular values must be finite and not negative")
    return values


def _is_share(tau: Any) -> bool:
    try:
        return bool(0.0 <= tau < 1.0)
    except (TypeError, ValueError, RuntimeError):  # nothing that compares, or several numbers
        return False

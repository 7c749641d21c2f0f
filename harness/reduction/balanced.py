"""Square-root balanced truncation of a diagonal system (Laub; Tombs and Postlethwaite)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from .gramians import Array, give_back, square_roots, to_complex128


class TruncationError(ValueError):
    """The reduced system has no diagonal form that keeps the error bound."""


@dataclass(frozen=True)
class Truncation:
    """A reduced diagonal system of order r, and how it came from one of order N.

    `T` (N, r) maps reduced to full states and `W` (r, N) full to reduced, with W T = I, both
    into the diagonal coordinates of the reduced system: B = W B_full, C = C_full T.
    `condition` is that of the eigenvectors in balanced coordinates; `error_bound` is twice
    the sum of the Hankel singular values beyond `order` (H-infinity norm).
    """

    eigenvalues: Array
    B: Array
    C: Array
    hsv: Array
    order: int
    error_bound: float
    T: Array
    W: Array
    condition: float


def balanced_truncation(
    eigenvalues: Array, B: Array, C: Array, order: int, keep: str = "largest"
) -> Truncation:
    """Keep the `order` most controllable and observable balanced states.

    Args:
        eigenvalues: (N,) complex, |eigenvalue| < 1.
        B: (N, H) complex, gamma included.
        C: (H, N) complex.
        order: 1..N. Above the numerical rank (sigma_j > N eps sigma_1), the realisation of
            the numerical rank is given, and `.order` says so.

    Returns:
        A `Truncation` in complex128, eigenvectors of unit 2-norm in balanced coordinates
        with their largest entry real and positive. ||G - G_r||_inf <= error_bound.

    Raises:
        ValueError: an order outside 1..N, an unstable or ill-shaped system.
        TruncationError: eigenvectors so ill-conditioned that the diagonal form misses the
            balanced one by more than the bound allows.
    """
    (lam, b, c), as_numpy = to_complex128(eigenvalues, B, C)
    n = lam.shape[-1] if lam.ndim else 0
    if isinstance(order, bool) or int(order) != order or not 1 <= order <= n:
        raise ValueError(f"order must be a whole number from 1 to {n}, not {order}")
    if keep != "largest":
        raise ValueError(f"keep must be 'largest', not {keep!r}")
    R, L = square_roots(lam, b, c)
    U, S, Vh = torch.linalg.svd(L.mH @ R)
    r = min(int(order), numerical_rank(S, n))
    scale = S[:r].rsqrt().to(torch.complex128)
    T = (R @ Vh.mH[:, :r]) * scale
    W = scale[:, None] * (U[:, :r].mH @ L.mH)
    balanced = (W @ (lam[:, None] * T), W @ b, c @ T)
    poles, X = eigenvectors(balanced[0])
    condition = float(torch.linalg.cond(X))
    T, W = T @ X, torch.linalg.solve(X, W)
    reduced = (poles, W @ b, c @ T)
    bound = 2.0 * float(S[r:].sum())
    check_diagonal_form(balanced, reduced, max(bound, 1e-9 * float(S[0])), condition)
    lam_r, b_r, c_r, hsv, T, W = (give_back(a, as_numpy) for a in (*reduced, S, T, W))
    return Truncation(lam_r, b_r, c_r, hsv, r, bound, T, W, condition)


def numerical_rank(hsv: torch.Tensor, n: int) -> int:
    """How many descending singular values lie above N eps sigma_1, at least 1."""
    floor = n * torch.finfo(torch.float64).eps * float(hsv[0])
    if float(hsv[0]) == 0.0:
        raise ValueError("the system is zero: B or C maps everything to nothing")
    return max(1, int((hsv > floor).sum()))


def eigenvectors(A: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues (r,) and eigenvectors (r, r) of unit 2-norm, largest entry real positive.

    LAPACK leaves scale and phase free; both change how the system trains afterwards.
    """
    values, X = torch.linalg.eig(A)
    X = X / torch.linalg.vector_norm(X, dim=0)
    largest = X.gather(0, X.abs().argmax(0, keepdim=True))
    return values, X * (largest.conj() / largest.abs())


def check_diagonal_form(balanced: tuple, reduced: tuple, allowed: float, condition: float) -> None:
    """Raise `TruncationError` if the diagonal system is unstable or misses the balanced one."""
    A, b, c = balanced
    poles, br, cr = reduced
    radius = float(poles.abs().max())
    if not radius < 1.0:
        raise TruncationError(f"the reduced system is unstable: largest |eigenvalue| {radius:.17g}")
    angles = torch.cat([poles.angle(), torch.arange(16, device=A.device) * (2 * math.pi / 16)])
    z = torch.polar(torch.ones_like(angles), angles)
    identity = torch.eye(len(A), dtype=A.dtype, device=A.device)
    exact = c @ torch.linalg.solve(z[:, None, None] * identity - A, b)
    diagonal = (cr[None] / (z[:, None, None] - poles)) @ br
    miss = float(torch.linalg.matrix_norm(exact - diagonal, ord=2).max())
    if not miss <= allowed:
        raise TruncationError(
            f"the diagonal form misses the balanced one by {miss:.3g}, more than {allowed:.3g}; "
            f"its eigenvectors have condition {condition:.3g}"
        )

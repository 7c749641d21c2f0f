"""Balanced singular perturbation (Liu, Anderson 1989): weak states follow at once, not dropped.

Truncation is exact at infinite frequency and errs at a constant input; this one is exact there.
"""

from __future__ import annotations

import torch

from .balanced import (
    SLACK,
    Truncation,
    TruncationError,
    check_diagonal_form,
    check_near_circle,
    eigenvectors,
    numerical_rank,
)
from .hankel import Decomposition, svd

SINGLE = torch.finfo(torch.float32).eps
LOST = 1e-3  # of the largest HSV: what writing the reduced system in float32 may cost


def residualise(system: Decomposition, order: int) -> Truncation:
    """Keep `order` balanced states and take the others at rest, h2_k = h2_{k-1}.

    Our output reads the state after the input, y_k = C h_k. Seen from the state before it,
    x_k = h_{k-1}, the system is (Lambda, B, C Lambda, C B), balanced by P and
    Lambda^H Q Lambda = Q - C^H C: its Hankel singular values are nowhere above those of
    (Lambda, B, C). In its coordinates, with N = (I - A22)^-1,

        A_r = A11 + A12 N A21,  B_r = B1 + A12 N B2,  C_r = C1 + C2 N A21,  D_r = C B + C2 N B2.

    By the inverse of a partitioned matrix, (I - A_r)^-1 is the leading part of (I - Lambda)^-1, so
    the kept states alone are needed: with T, W as for truncation,

        (I - A_r)^-1 = W (I - Lambda)^-1 T =: M,   B_r = M^-1 W (I - Lambda)^-1 B,
        C_r = C Lambda (I - Lambda)^-1 T M^-1.

    M is diagonalised; an output C' h_k = C' (lambda h_{k-1} + B_r u_k) has C' = C_r / lambda, and
    what remains is the static gain, taken such that the response to a constant input is exact.

    Returns:
        A `Truncation` with a `gain` (H, H) complex128. Its T and W are the projection's, W T = I,
        not maps between the systems. The error is at most twice the sum of the Hankel singular
        values beyond `order`, as for truncation. An order above the numerical rank gives that.

    Raises:
        TruncationError: an unstable reduced system, one without a usable diagonal form, or one
            with so small an eigenvalue that float32 cannot hold C' and gain.
    """
    lam, b, c = system.eigenvalues, system.B, system.C
    U, S, Vh = svd(system.L.mH @ (lam[:, None] * system.R), system.is_real)
    r = min(int(order), numerical_rank(S, len(S)))
    scale = S[:r].rsqrt().to(torch.complex128)
    T = (system.R @ Vh.mH[:, :r]) * scale
    W = scale[:, None] * (U[:, :r].mH @ (system.L.mH * lam))
    slow = 1.0 / (1.0 - lam)
    M = W @ (slow[:, None] * T)
    into, out = W @ (slow[:, None] * b), (c * (lam * slow)) @ T
    inverse = torch.linalg.inv(M)
    balanced = (
        torch.eye(r, dtype=M.dtype, device=M.device) - inverse,
        inverse @ into,
        out @ inverse,
    )
    values, X = eigenvectors(M, system.is_real)
    singular = torch.linalg.svdvals(X)
    condition = float(singular[0] / singular[-1])
    T, W = T @ X, torch.linalg.solve(X, W)
    poles = 1.0 - 1.0 / values
    reduced = (poles, (torch.linalg.solve(X, into)) / values[:, None], (out @ X) / values)
    bound = 2.0 * float(system.hsv[r:].sum())
    allowed = max(bound, SLACK * float(system.hsv[0]))
    check_diagonal_form(balanced, reduced, X, float(1.0 / singular[-1]), allowed, condition)
    B, C, gain = _after_the_input(*reduced, static=(c * slow) @ b)
    check_near_circle((lam, b, c), (poles, B, C), allowed, gain)
    _check_single(poles, B, C, bound, float(system.hsv[0]))
    energy = float(system.hsv[:r].sum() / system.hsv.sum())
    return Truncation(
        poles, B, C, system.hsv, r, bound, T, W, condition, energy_kept=energy, gain=gain
    )


def _after_the_input(
    poles: torch.Tensor, b: torch.Tensor, c: torch.Tensor, static: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(B, C, gain) of y_k = C h_k + gain u_k with the transfer function c (z - poles)^-1 b + const.

    `static` (H, H) is what the whole must be at z = 1.
    """
    C = c / poles
    return b, C, static - (C / (1.0 - poles)) @ b


def _check_single(
    poles: torch.Tensor, b: torch.Tensor, c: torch.Tensor, bound: float, largest: float
) -> None:
    """Raise `TruncationError` where C h and gain u cancel beyond what float32 can hold."""
    gains = torch.linalg.vector_norm(b, dim=1) * torch.linalg.vector_norm(c, dim=0)
    lost = SINGLE * float(gains.sum())
    if not lost <= max(bound, LOST * largest):
        raise TruncationError(
            f"the reduced system has an |eigenvalue| of {float(poles.abs().min()):.3g}: written in "
            f"float32, states and static gain would err by {lost:.3g}"
        )

"""Square-root balanced truncation of a diagonal system (Laub; Tombs and Postlethwaite)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch

from .arrays import Array, give_back, to_complex128
from .circle import distances
from .gramians import check_shapes
from .hankel import Decomposition, decompose

ARRAYS = ("eigenvalues", "B", "C", "hsv", "T", "W")
SLACK = 1e-9  # of the largest singular value: rounding beyond the error bound
MARGIN = 1000  # times the numerical rank's floor, when the weakest states are kept


class TruncationError(ValueError):
    """The reduced system has no diagonal form that keeps the error bound."""


@dataclass(frozen=True)
class Truncation:
    """A reduced diagonal system of order r, and how it was obtained from one of order N.

    `T` (N, r) maps reduced to full states and `W` (r, N) full to reduced, with W T = I, both
    into the diagonal coordinates of the reduced system: B = W B_full, C = C_full T.
    `condition` is that of the eigenvectors in balanced coordinates; `error_bound` is in the
    H-infinity norm, for balanced states twice the sum of the Hankel singular values left out;
    `energy_kept` is the kept share of the Hankel singular values, or, if modes were selected,
    of the mode shares. Under weighted Gramians `hsv` are the weighted singular values, there is no
    bound, and `stabilised` says what took the place of an unstable projection, if anything did.
    `poles_moved` is how far at most one of its poles then was. `output_error` is the relative error
    of the output on held-out calibration data, if measured.

    `gain` (H, H): what must be added to the output, Re(gain) u, or None. `modes` (r,): which modes
    of the full system these are, if modes were only selected, or None. `refit`: what of B, C and
    gain was fitted to calibration data after the projection, or None; B and C are then others than
    those of T and W, and there is no bound.

    A real system, by its stored states (see `real.py`), is mapped by `T_conj` (N, r) and `W_conj`
    (r, N), too: B = W B_full + W_conj conj(B_full), and C_full = C W + conj(C) conj(W_conj).
    """

    eigenvalues: Array
    B: Array
    C: Array
    hsv: Array
    order: int
    error_bound: float | None
    T: Array
    W: Array
    condition: float
    energy_kept: float = 1.0
    gain: Array | None = None
    modes: Array | None = None
    stabilised: str | None = None
    output_error: float | None = None
    poles_moved: float | None = None
    refit: str | None = None
    T_conj: Array | None = None
    W_conj: Array | None = None

    @property
    def systems(self) -> tuple[Truncation, ...]:
        """The systems of the block: this one; see `StackTruncation`."""
        return (self,)


@torch.no_grad()
def balanced_truncation(
    eigenvalues: Array, B: Array, C: Array, order: int, keep: str = "largest"
) -> Truncation:
    """Keep the `order` most controllable and observable balanced states, or the least.

    Args:
        eigenvalues: (N,) complex, |eigenvalue| < 1.
        B: (N, H) complex, gamma included.
        C: (H, N) complex.
        order: 1..N. Above the numerical rank (sigma_j > N eps sigma_1), the realisation of
            the numerical rank is given, and `.order` says so.
        keep: "largest", or for ablation "smallest": see `reduce_smallest`.

    Returns:
        A `Truncation` in complex128, eigenvectors of unit 2-norm in balanced coordinates
        with their largest entry real and positive. ||G - G_r||_inf <= error_bound, up to
        rounding of at most 1e-9 of the largest Hankel singular value.

    Raises:
        ValueError: an order outside 1..N, an unstable or ill-shaped system, or more than one;
            another `keep`.
        TruncationError: eigenvectors so ill-conditioned that the diagonal form misses the
            balanced one by more than the bound allows, or poles so near the unit circle that
            rounding does.
    """
    system, as_numpy = to_complex128(eigenvalues, B, C)
    check_shapes(*system)
    check_one(*system)
    check_order(order, system[0].shape[-1])
    if keep not in ("largest", "smallest"):
        raise ValueError(f"keep must be 'largest' or 'smallest', not {keep!r}")
    found = (reduce if keep == "largest" else reduce_smallest)(decompose(*system), order)
    if not as_numpy:
        return found
    parts = {name: give_back(getattr(found, name), True) for name in ARRAYS}
    return replace(found, **parts)


def check_one(eigenvalues: torch.Tensor, B: torch.Tensor, C: torch.Tensor) -> None:
    """Raise `ValueError` for leading batch dimensions: the results of a batch do not stack."""
    if eigenvalues.ndim > 1 or B.ndim > 2 or C.ndim > 2:
        shapes = ", ".join(str(tuple(array.shape)) for array in (eigenvalues, B, C))
        raise ValueError(
            "balanced_truncation takes one system, (N,), (N, H), (H, N), since the order reached "
            f"may differ from system to system; got eigenvalues, B, C of shapes {shapes}"
        )


def check_order(order: int, n: int) -> None:
    """Raise `ValueError` unless 1 <= order <= n is a whole number."""
    if not is_order(order, n):
        raise ValueError(f"order must be a whole number from 1 to {n}, not {order}")


def is_order(order: Any, n: int) -> bool:
    """Whether it is a whole number from 1 to n, of whatever type."""
    try:
        return not isinstance(order, bool) and int(order) == order and 1 <= order <= n
    except (TypeError, ValueError, OverflowError):  # no number, NaN, infinite
        return False


def reduce(system: Decomposition, order: int) -> Truncation:
    """`balanced_truncation` of one system that has been decomposed already; 1 <= order <= N."""
    r = min(int(order), numerical_rank(system.hsv, len(system.hsv)))
    return keep_states(system, 0, r)


def reduce_smallest(system: Decomposition, order: int) -> Truncation:
    """The system of the last `order` balanced states that double precision can still tell, fewer
    where there are fewer (`.order` says so); 1 <= order <= N.

    A state is divided by its sigma, whose rounding error is about N eps sigma_1: those below
    1000 times that are left out like the largest, or the projection would be no projection (at
    1000 times, W T differs from the identity by about 1e-3).

    The bound holds for any set of balanced states left out. The balanced realisation stays one
    whatever the order of its states, a part of it still has the kept part of Sigma as solution of
    both Lyapunov inequalities, and the bound for a part left out from such Gramians asks for no
    order among them (Beck, Doyle, Glover 1996).
    """
    told = numerical_rank(system.hsv, MARGIN * len(system.hsv))
    return keep_states(system, told - min(int(order), told), told)


def keep_states(system: Decomposition, first: int, end: int) -> Truncation:
    """The balanced states `first` .. `end` - 1 in diagonal form; the last above the numerical rank.

    Raises `TruncationError` as `balanced_truncation`.
    """
    S, b, c = system.hsv, system.B, system.C
    kept = slice(first, end)
    balanced, T, W = project(system, kept)
    poles, X = eigenvectors(balanced[0], system.is_real)
    singular = torch.linalg.svdvals(X)
    condition = float(singular[0] / singular[-1])
    T, W = T @ X, torch.linalg.solve(X, W)
    reduced = (poles, W @ b, c @ T)
    bound = 2.0 * float(S[:first].sum() + S[end:].sum())
    allowed = max(bound, SLACK * float(S[0]))
    check_diagonal_form(balanced, reduced, X, float(1.0 / singular[-1]), allowed, condition)
    check_near_circle((system.eigenvalues, b, c), reduced, allowed)
    energy = float(S[kept].sum() / S.sum())
    return Truncation(*reduced, S, end - first, bound, T, W, condition, energy)


def project(
    system: Decomposition, kept: slice
) -> tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor, torch.Tensor]:
    """The system of these balanced states, (A (r, r), b (r, H), c (H, r)), with T and W."""
    scale = system.hsv[kept].rsqrt().to(torch.complex128)
    T = (system.R @ system.Vh.mH[:, kept]) * scale
    W = scale[:, None] * (system.U[:, kept].mH @ system.L.mH)
    return (W @ (system.eigenvalues[:, None] * T), W @ system.B, system.C @ T), T, W


def numerical_rank(hsv: torch.Tensor, n: int) -> int:
    """How many descending singular values lie above N eps sigma_1, at least 1."""
    check_not_zero(hsv)
    floor = n * torch.finfo(torch.float64).eps * float(hsv[0])
    return max(1, int((hsv > floor).sum()))


def check_not_zero(hsv: torch.Tensor) -> None:
    """Raise `ValueError` if all of the descending singular values vanish."""
    if float(hsv[0]) == 0.0:
        raise ValueError("the system is zero: B or C maps everything to nothing")


def eigenvectors(A: torch.Tensor, is_real: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues (r,) and eigenvectors (r, r) of unit 2-norm, largest entry real positive.

    LAPACK leaves scale and phase free; both change how the system trains afterwards. Those of a
    matrix that is real but for rounding are exactly conjugate pairs, or real.
    """
    values, X = torch.linalg.eig(A.real if is_real else A)
    X = X / torch.linalg.vector_norm(X, dim=0)
    largest = X.gather(0, X.abs().argmax(0, keepdim=True))
    return values, X * (largest.conj() / largest.abs())


def check_diagonal_form(
    balanced: tuple,
    reduced: tuple,
    X: torch.Tensor,
    inverse: float,
    allowed: float,
    condition: float,
) -> None:
    """Raise `TruncationError` if the diagonal system is unstable or misses the balanced one.

    Args:
        balanced: (A (r, r), b (r, H), c (H, r)); reduced: (poles (r,), b (r, H), c (H, r)).
        X: (r, r), the eigenvectors of A; inverse: the 2-norm of their inverse.
        allowed: how much the transfer functions may differ, in the H-infinity norm.
    """
    radius = float(reduced[0].abs().max())
    if not radius < 1.0:
        raise TruncationError(f"the reduced system is unstable: largest |eigenvalue| {radius:.17g}")
    if miss_bound(balanced, reduced, X, inverse) <= allowed:
        return
    miss = largest_miss(balanced, reduced)
    if not miss <= allowed:
        raise TruncationError(
            f"the diagonal form misses the balanced one by {miss:.3g}, more than {allowed:.3g}; "
            f"its eigenvectors have condition {condition:.3g}"
        )


def check_near_circle(full: tuple, reduced: tuple, allowed: float, gain: Any = 0.0) -> None:
    """Raise `TruncationError` if rounding has moved poles so near the unit circle that the reduced
    system misses the full one by more than the bound.

    Projection rounds a pole to about N eps. Where that is more than `SLACK` of its distance from
    the circle, G(z) - G_r(z) is looked at, at the phases of such poles and at 16 others: just
    outside of the circle, where z - pole is exact and nothing is larger than on it.

    Args:
        full: (eigenvalues (N,), B (N, H), C (H, N)); reduced: the same of order r, and `gain`,
            (H, H), what is added to its output.
        allowed: how much the transfer functions may differ, in the H-infinity norm.
    """
    eps = torch.finfo(torch.float64).eps
    far = len(full[0]) * eps / SLACK
    close = torch.cat([poles[distances(poles) < far] for poles in (full[0], reduced[0])])
    if not len(close):
        return
    others = torch.arange(16, device=close.device, dtype=torch.float64) * (2 * math.pi / 16)
    points = torch.cat([close / close.abs(), torch.polar(torch.ones_like(others), others)])
    largest = close.new_zeros((), dtype=torch.float64)
    for z in points * (1.0 + 4.0 * eps):
        exact, found = ((c / (z - poles)) @ b for poles, b, c in (full, reduced))
        miss = torch.linalg.matrix_norm(z * (exact - found) - gain, ord=2)
        largest = torch.maximum(largest, miss)  # keeps what is not a number
    if not float(largest) <= allowed:
        nearest = float(distances(close).min())
        raise TruncationError(
            f"with a pole at {nearest:.3g} from the unit circle, rounding alone makes the reduced "
            f"system miss the full one by {float(largest):.3g}, more than {allowed:.3g}"
        )


def miss_bound(balanced: tuple, reduced: tuple, X: torch.Tensor, inverse: float) -> float:
    """A bound, over all frequencies, on the 2-norm of G(z) - G_r(z), from residuals alone.

    With E = A X - X D, F = b - X b_r and K = c X - c_r the difference is exactly
    K (z - D)^-1 b_r + c (z - A)^-1 (F + E (z - D)^-1 b_r); and c (z - A)^-1 is at most
    ||c X (z - D)^-1|| ||X^-1|| / (1 - e), e = ||E (z - D)^-1|| ||X^-1|| < 1 (Neumann series).
    On the circle |z - d| >= 1 - |d|.
    """
    A, b, c = balanced
    poles, b_r, c_r = reduced
    norm = torch.linalg.matrix_norm  # Frobenius, at least the 2-norm
    gap = distances(poles)
    E, F, cX = A @ X - X * poles, b - X @ b_r, c @ X
    inputs, outputs = norm(b_r / gap[:, None]), norm(cX / gap)
    neumann = norm(E / gap) * inverse
    left = outputs * inverse / (1.0 - neumann)
    found = norm(cX - c_r) * inputs + left * (norm(F) + norm(E) * inputs)
    return float(torch.where(neumann < 1.0, found, torch.inf))


def largest_miss(balanced: tuple, reduced: tuple) -> float:
    """The largest 2-norm of G(z) - G_r(z) at the phases of the poles and at 16 others.

    One frequency at a time: MKL's batched LU fails on complex matrices of some hundred rows.
    """
    A, b, c = balanced
    poles, b_r, c_r = reduced
    angles = torch.cat([poles.angle(), torch.arange(16, device=A.device) * (2 * math.pi / 16)])
    identity = torch.eye(len(A), dtype=A.dtype, device=A.device)
    largest = A.new_zeros((), dtype=torch.float64)
    for z in torch.polar(torch.ones_like(angles), angles):
        exact = c @ torch.linalg.solve(z * identity - A, b)
        miss = torch.linalg.matrix_norm(exact - (c_r / (z - poles)) @ b_r, ord=2)
        largest = torch.maximum(largest, miss)  # keeps what is not a number
    return float(largest)

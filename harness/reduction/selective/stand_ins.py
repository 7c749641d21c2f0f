"""A system that stands in for a channel of a selective layer, or for the heads of a group, and its
balanced truncation, in a diagonal form that a real kernel can run.

The form is ours: arXiv 2510.02823, appendix E, as secondary sources tell it, projects B and C on
the balanced states of each channel, and does not say what becomes of A, which is then dense. Here
the reduced A = X diag(poles) X^-1 is made diagonal. Where a pole is complex, or outside of what a
rate can give, X holds the real and imaginary part of its eigenvector, its place is taken by the
nearest real pole there is, and the output's maps are scaled, state by state, so that the impulse
response is that of the reduced system, as near as real poles of these numbers come, in the H2 norm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from ..balanced import MARGIN, Truncation, numerical_rank
from ..hankel import Decomposition
from ..stacks import StackTruncation
from .curve import Curve
from .decomposition import StateSelection

MET = 1e-9  # what a pole may be off and count as met
RIDGE = 1e-6  # of a state's energy, that keeps the scales near 1 where they are not determined


@dataclass(frozen=True)
class StandInTruncation(Truncation):
    """Of one stand-in, real: `rates` (r,) are the new rates, negative, None of heads. W T is the
    identity only where all poles are met; `poles_moved` is the largest miss, None if there is none.
    No bound is known of a layer that changes with its input."""

    rates: torch.Tensor | None = None


@dataclass(frozen=True)
class StandIn(Decomposition):
    """A real system of n states, one of `channels` that it stands for, all float64: eigenvalues
    (n,), the mean decays; B (n, I) and C (O, n), by which P = B B^T / (1 - l_i l_j) and Q alike.

    rates: (n,), negative, whose mean decays these are, and `curve` what those of other rates are;
    both None of a group of heads, where every basis is diagonal and eigenvalues are 0. features: M,
    the rows of the layer's projections.
    """

    rates: torch.Tensor | None = None
    curve: Curve | None = None
    channels: int = 1
    features: int = 0

    def reduced(self, order: int, how: str, lot: torch.Tensor | None) -> StandInTruncation:
        """At this order: the largest balanced states, the `smallest`, or those of a `lot` (r,), as
        they are. Above the numerical rank, that (`.order` says so)."""
        n = self.state_dim
        if lot is not None:
            return self._as_they_are(lot)
        if order == n or not bool(self.hsv.any()):
            kept = torch.arange(order if bool(self.hsv.any()) else 1)
            return self._as_they_are(kept)
        if how == "smallest":
            told = numerical_rank(self.hsv, MARGIN * n)
            return self._balanced(slice(told - min(order, told), told))
        return self._balanced(slice(0, min(order, numerical_rank(self.hsv, n))))

    def _as_they_are(self, modes: torch.Tensor) -> StandInTruncation:
        T = torch.eye(self.state_dim, dtype=self.B.dtype, device=self.B.device)[:, modes]
        worth = self.mode_shares.clamp_min(0.0)
        energy = float(worth[modes].sum() / worth.sum()) if bool(worth.any()) else 1.0
        rates = None if self.rates is None else self.rates[modes]
        return self._found(self.eigenvalues[modes], T, T.mT, 1.0, energy, rates)

    def _balanced(self, kept: slice) -> StandInTruncation:
        scale = self.hsv[kept].rsqrt()
        T = (self.R @ self.Vh.mT[:, kept]) * scale
        W = scale[:, None] * (self.U[:, kept].mT @ self.L.mT)
        energy = float(self.hsv[kept].sum() / self.hsv.sum())
        if self.curve is None:
            return self._found(self.eigenvalues[kept], T, W, 1.0, energy, None)
        A = W @ (self.eigenvalues[:, None] * T)
        poles, X = _real_form(A)
        rates, met = self.curve.rates(poles.real)
        W_r, T_r = torch.linalg.solve(X, W), T @ X
        miss = float((met - poles).abs().max())
        if miss > MET:
            T_r = T_r * _scales(met, A, (W @ self.B, self.C @ T), (W_r @ self.B, self.C @ T_r))
        condition = float(torch.linalg.cond(X))
        found = self._found(met, T_r, W_r, condition, energy, rates)
        return replace(found, poles_moved=miss if miss > MET else None)

    def _found(
        self,
        poles: torch.Tensor,
        T: torch.Tensor,
        W: torch.Tensor,
        condition: float,
        energy: float,
        rates: torch.Tensor | None,
    ) -> StandInTruncation:
        return StandInTruncation(
            eigenvalues=poles,
            B=W @ self.B,
            C=self.C @ T,
            hsv=self.hsv,
            order=T.shape[1],
            error_bound=None,
            T=T,
            W=W,
            condition=condition,
            energy_kept=energy,
            rates=rates,
        )


def is_of_selective(done: Any) -> bool:
    """Whether a block's truncation is that of a selective layer."""
    systems = done.systems
    return any(isinstance(one, StateSelection | StandInTruncation) for one in systems)


def rates_of(done: StackTruncation) -> torch.Tensor | None:
    """The rates of all its systems, (S, r) float64, those of padding -1; None of heads."""
    if not any(getattr(one, "rates", None) is not None for one in done.systems):
        return None
    found = torch.full((len(done.systems), done.order), -1.0, dtype=torch.float64)
    for row, one in zip(found, done.systems, strict=True):
        row[: one.order] = one.rates  # type: ignore[attr-defined]
    return found


def _real_form(A: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues (r,) complex, of a pair one after the other, and X (r, r) real: eigenvectors of
    unit norm, of a pair real and imaginary part of the first's."""
    values, vectors = torch.linalg.eig(A)
    second = values.imag < 0.0  # LAPACK gives the one above the axis first
    X = torch.where(second, vectors.imag.roll(1, 1), vectors.real)
    return values, X / torch.linalg.vector_norm(X, dim=0).clamp_min(torch.finfo(A.dtype).tiny)


def _scales(
    poles: torch.Tensor,
    A: torch.Tensor,
    wanted: tuple[torch.Tensor, torch.Tensor],
    found: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """f (r,) that makes sum_n f_n poles_n^k c_n b_n nearest to C A^k B, over all k >= 0.

    wanted: B (r, I) and C (O, r) of A (r, r); found: those of the diagonal form, c_n a column of
    its C and b_n a row of its B. <c_n b_n, C A^k B> summed over k with poles_n^k is c_n^T C
    (1 - poles_n A)^-1 B b_n^T.
    """
    (B, C), (b, c) = wanted, found
    energies = (b @ b.mT) * (c.mT @ c) / (1.0 - poles[:, None] * poles)
    one = torch.eye(len(A), dtype=A.dtype, device=A.device)
    inner = torch.linalg.solve(one - poles[:, None, None] * A, (B @ b.mT).mT[..., None])
    right = ((c.mT @ C)[:, None, :] @ inner)[:, 0, 0]
    ridge = RIDGE * energies.diagonal().clamp_min(torch.finfo(A.dtype).tiny)
    return torch.linalg.solve(energies + torch.diag(ridge), right + ridge)

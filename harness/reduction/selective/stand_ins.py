"""A system that stands in for a channel of a selective layer, or for the heads of a group, and its
balanced truncation, in a diagonal form that a real kernel can run.

The form is ours: arXiv 2510.02823, appendix E, as secondary sources tell it, projects B and C on
the balanced states of each channel, and does not say what becomes of A, which is then dense. Here
the reduced A = X diag(poles) X^-1 is made diagonal, and the reduced system met exactly, where all
poles are real and have a rate. Elsewhere the full states are projected on the same subspace, the
range of T, along another: orthogonally in the metric diag(Q), in which a diagonal A is symmetric,
so that poles are real and lie among those of A, and their eigenvectors are orthonormal.
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
LEAST = 1e-12  # of the largest root of Q's diagonal, which no other falls below


@dataclass(frozen=True)
class StandInTruncation(Truncation):
    """Of one stand-in, real: `rates` (r,) are the new rates, negative, None of heads. `poles_moved`
    says how far at most poles, in the order of their real parts, are from those of the balanced
    system, where these cannot be had; None where they can. No bound is known of a layer that
    changes with its input."""

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
        if not bool(self.hsv.any()):
            return self._as_they_are(torch.arange(1))  # no state connects input and output
        if order == n:
            return self._as_they_are(torch.arange(n))
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
        poles, X = torch.linalg.eig(W @ (self.eigenvalues[:, None] * T))
        rates, met = self.curve.rates(poles.real)
        miss = float((met - poles).abs().max())
        if miss <= MET:
            X = X.real
            T, W, condition = T @ X, torch.linalg.solve(X, W), float(torch.linalg.cond(X))
            return self._found(met, T, W, condition, energy, rates)
        met, T, W = self._nearest_real(T)
        rates, met = self.curve.rates(met)
        miss = float((met - poles.real.sort().values).abs().max())
        found = self._found(met, T, W, 1.0, energy, rates)
        return replace(found, poles_moved=miss)

    def _nearest_real(self, T: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Poles (r,) ascending, T and W of the projection on the range of T that is orthogonal in
        the metric D = diag(Q). A is symmetric in it, so poles are real, and lie among those of A.
        """
        root = torch.linalg.vector_norm(self.L, dim=1)
        root = root.clamp_min(LEAST * float(root.max()))
        V, _ = torch.linalg.qr(root[:, None] * T)
        poles, X = torch.linalg.eigh(V.mT @ (self.eigenvalues[:, None] * V))
        V = V @ X
        return poles, V / root[:, None], V.mT * root

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

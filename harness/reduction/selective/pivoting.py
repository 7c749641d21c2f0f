"""Which states' inputs and outputs the others' can be made of: a strong rank-revealing QR.

A rival to Hankel shares, after DRRQR (Nazari and Rusch, arXiv 2602.04852), which removes channels
of keys and queries from linear attention: pivoted QR of their activations behind the convolution,
and then swaps (Gu and Eisenstat 1996, SIAM J. Sci. Comput. 17). Here B is the key and C the query,
one's rows over the other's, as in their code (phnazari/LinearAttentionPruning@02c65e9); that either
is divided by its norm first is ours, since the scales of B and C can be traded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import torch

from ..gramians import UnusableSystem
from .decomposition import SelectiveDecomposition, StateSelection

STEPS = 2500  # sampled at most; a row of B and one of C each make their 5,000
F, SWAPS = 1.5, 20  # theirs


@dataclass(frozen=True)
class PivotedDecomposition(SelectiveDecomposition):
    """factors: (G, N, N) float64 on the CPU, G 1 of a layer without heads: R of the QR of the
    activations with their columns in order. mode_shares: the squared diagonal of R with columns
    pivoted, each at its column, which descends along the pivots."""

    factors: torch.Tensor

    def kept(self, order: int, how: str, lot: torch.Tensor | None = None) -> StateSelection:
        """As of `SelectiveDecomposition`; but where neither the smallest are asked for nor a lot
        was drawn, the first `order` pivots after swaps."""
        done = super().kept(order, how, lot)
        if lot is not None or how == "smallest":
            return done
        swapped = [strong_rrqr(one.numpy(), order) for one in self.factors]
        modes = torch.from_numpy(np.stack(swapped)).view_as(done.modes).to(done.modes.device)
        worth = self.mode_shares
        kept = float(worth.take_along_dim(modes, -1).sum() / worth.sum())
        return StateSelection(self.hsv, modes, kept)


class Pivots:
    """The inputs B and outputs C of at most `STEPS` steps, drawn by the seed from all without
    replacement, (steps, 2, G, N)."""

    def __init__(self, layer: Any, seed: int):
        self.layer = layer
        self.groups = layer.groups if layer.rates.dim() == 1 else 1
        self.numbers = torch.Generator().manual_seed(seed)
        self.lots = torch.empty(0, dtype=torch.float64)
        self.rows = layer.rates.detach().new_empty(0, 2, self.groups, layer.state_dim)
        self.channels = 0

    @torch.no_grad()
    def add(self, u: torch.Tensor) -> None:
        """The steps of a batch, (batch, length, H): those of the smallest lots so far stay."""
        x, _, B, C = self.layer.selection(u)
        self.channels = x[0, 0].numel()
        B, C = (one.flatten(0, 1).view(-1, self.groups, one.shape[-1]) for one in (B, C))
        rows = torch.cat([self.rows, torch.stack([B, C], 1).to(self.rows.dtype)])
        drawn = torch.rand(len(B), generator=self.numbers, dtype=torch.float64)
        lots = torch.cat([self.lots, drawn])
        stay = lots.argsort()[:STEPS].sort().values
        self.lots, self.rows = lots[stay], rows[stay.to(rows.device)]

    def solved(self, how: str) -> int:
        """How many systems are decomposed: none."""
        return 0

    def shares(self, how: str) -> torch.Tensor:
        """Squared diagonals, see `PivotedDecomposition`; (N,) float64, (G, N) with heads."""
        found = torch.zeros(self.factors.shape[:2], dtype=torch.float64)
        for shares, factor in zip(found, self.factors.numpy(), strict=True):
            R, pivots = scipy.linalg.qr(factor, mode="r", pivoting=True)
            shares[pivots] = torch.from_numpy(np.diag(R) ** 2)
        found = found.to(self.rows.device)
        return found if self.layer.rates.dim() == 1 else found[0]

    @property
    def factors(self) -> torch.Tensor:
        """See `PivotedDecomposition`. B and C are divided by their Frobenius norms first, in every
        group, so that either counts as much.

        Raises:
            UnusableSystem: activations that are not finite.
        """
        of_groups = self.rows.double().cpu().permute(2, 1, 0, 3)  # (G, 2, steps, N)
        if not bool(torch.isfinite(of_groups).all()):
            raise UnusableSystem("B and C over the calibration examples must be finite")
        sizes = torch.linalg.vector_norm(of_groups, dim=(2, 3), keepdim=True)
        unit = (of_groups / torch.where(sizes > 0, sizes, 1.0)).flatten(1, 2)
        R = torch.linalg.qr(unit, mode="r").R
        full = R.new_zeros(len(R), R.shape[-1], R.shape[-1])  # of fewer rows than columns, too
        full[:, : R.shape[1]] = R
        return full


def strong_rrqr(factor: np.ndarray, order: int) -> np.ndarray:
    """`order` columns of a matrix, ascending, that make the others with coefficients of at most F:
    pivoted QR, and swaps of a column kept and one left out while one of `exchanges` is above F, at
    most `SWAPS`. None where the matrix has no higher rank than columns kept."""
    R, at = scipy.linalg.qr(factor, mode="r", pivoting=True)
    diagonal = np.abs(np.diag(R))
    eps = np.finfo(factor.dtype).eps * len(diagonal)
    if order < len(diagonal) and diagonal[order - 1] > eps * diagonal[0]:
        for _ in range(SWAPS):
            rho = exchanges(scipy.linalg.qr(factor[:, at], mode="r")[0], order)
            i, j = np.unravel_index(rho.argmax(), rho.shape)
            if rho[i, j] <= F:
                break
            at[[i, order + j]] = at[[order + j, i]]
    return np.sort(at[:order]).astype(np.int64)


def exchanges(R: np.ndarray, order: int) -> np.ndarray:
    """By how much |det R11| grows when column i of the first `order` gives way to column j of the
    others, (order, N - order): rho_ij with rho^2 = (R11^-1 R12)_ij^2 + (gamma_j / omega_i)^2, gamma
    the column norms of R22, 1 / omega the row norms of R11^-1 (Gu and Eisenstat, lemma 3.1)."""
    inverse = scipy.linalg.solve_triangular(R[:order, :order], np.eye(order))
    made = inverse @ R[:order, order:]
    gamma = np.linalg.norm(R[order:, order:], axis=0)
    return np.hypot(made, np.linalg.norm(inverse, axis=1)[:, None] * gamma)

"""What takes the place of a weighted projection that is unstable.

One Gramian that solves its Lyapunov equation is enough (Enns 1984; Pernebo and Silverman 1982). In
balanced coordinates Sigma = A^H Sigma A + C^H C, whose leading block is Sigma_1 >= A_11^H Sigma_1
A_11, so no |eigenvalue| of A_11 is above 1; and one of 1 would be an eigenvector v with C_1 v = 0
and A_21 v = 0, an eigenvector of A itself. Only the other Gramian is free.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from ..circle import gaps
from ..gramians import square_root
from ..hankel import svd
from ..real import root_of
from .choice import Stability
from .measured import WeightedDecomposition


def made_stable(system: WeightedDecomposition) -> tuple[WeightedDecomposition, Stability]:
    """A decomposition whose truncations are stable, as the weighting's `stability` says, and which
    it is: `one_sided` where moving poles (`poles.py`) was asked for and has not helped."""
    if system.weighting.stability == "stabilised":
        return stabilised(system), "stabilised"
    return _with(system, system.R, system.white.L), "one_sided"


def stabilised(system: WeightedDecomposition) -> WeightedDecomposition:
    """Wang, Sreeram and Liu (1999): the observability Gramian Q with X = Q - A^H Q A replaced by
    |X| = (X^2)^(1/2), which makes it the solution of a Lyapunov equation again, and Q no smaller.
    """
    lam = system.eigenvalues
    gap = gaps(lam, float(lam.abs().max())).conj()
    X = (system.L @ system.L.mH) * gap
    values, vectors = torch.linalg.eigh((X + X.mH) / 2)
    made = (vectors * values.abs()) @ vectors.mH
    Q = made / gap
    Q = (Q + Q.mH) / 2
    return _with(system, system.R, root_of(Q, square_root) if system.is_real else square_root(Q))


def _with(system: WeightedDecomposition, R: torch.Tensor, L: torch.Tensor) -> WeightedDecomposition:
    U, S, Vh = svd(L.mH @ R, system.is_real)
    return replace(system, R=R, L=L, U=U, hsv=S, Vh=Vh)

"""Choosing modes of a diagonal system as it stands, without a change of basis."""

from __future__ import annotations

import numpy as np
import torch

from .balanced import Truncation, check_not_zero
from .circle import distances
from .gramians import UnusableSystem
from .hankel import Decomposition, gains
from .real import RealDecomposition

LAST_EPS = 1e-8  # of the published code


def last_scores(system: Decomposition | RealDecomposition) -> torch.Tensor:
    """LAST (arXiv 2411.02824): |C_i|^2 |B_i|^2 / ((1 - |l_i|)^2 + 1e-8), a mode's squared
    H-infinity norm; (N,) float64."""
    return system.mode_gains.square() / (distances(system.eigenvalues).square() + LAST_EPS)


def aire_scores(system: Decomposition | RealDecomposition) -> torch.Tensor:
    """AIRE-Prune (ICLR 2026): |C_i|^2 |B_i|^2 / (1 - |l_i|^2), a mode's energy (squared H2 norm);
    (N,) float64."""
    lam = system.eigenvalues
    return system.mode_gains.square() / (distances(lam) * (1.0 + lam.abs()))


def modal_scores(system: Decomposition | RealDecomposition) -> torch.Tensor:
    """|l_i|, (N,) float64: the slowest modes count most (modal truncation, arXiv 2403.14833)."""
    return system.eigenvalues.abs()


SCORES = {"last": last_scores, "aire": aire_scores, "modal": modal_scores}


def scores(system: Decomposition | RealDecomposition, method: str) -> torch.Tensor:
    """What a mode is worth to `last`, `aire` or `modal`, (N,) float64, in parameter order. Under
    weighted Gramians |C_i| |B_i| is measured (`WeightedDecomposition.mode_gains`).

    Raises:
        UnusableSystem: a score beyond double precision.
    """
    found = SCORES[method](system)
    if not bool(torch.isfinite(found).all()):
        raise UnusableSystem(f"a mode's {method} score overflows double precision")
    return found


def best(values: torch.Tensor, order: int) -> torch.Tensor:
    """Indices of the `order` largest values, ascending; of equal ones the first."""
    ranked = torch.argsort(values, descending=True, stable=True)
    return ranked[:order].sort().values


def drawn(n: int, order: int, generator: np.random.Generator) -> torch.Tensor:
    """`order` of n modes without replacement, ascending; takes one draw of the generator."""
    return torch.from_numpy(np.sort(generator.choice(n, size=order, replace=False)))


def select(system: Decomposition | RealDecomposition, modes: torch.Tensor) -> Truncation:
    """The system of these modes alone, and what leaving out the others costs at most.

    `energy_kept` is the kept share of `mode_shares`. The error is the sum of the removed modes'
    transfer functions, so by the triangle inequality its H-infinity norm is at most the sum of
    |C_i| |B_i| / (1 - |l_i|) over them, whatever the modes were chosen by.

    Args:
        modes: (r,) different indices, ascending.

    Raises:
        ValueError: a system of no energy at all, of which nothing is a share.
    """
    modes = modes.to(system.hsv.device)
    removed = torch.ones_like(system.hsv, dtype=torch.bool)
    removed[modes] = False
    peaks = gains(system.B, system.C) / distances(system.eigenvalues)
    check_not_zero(system.hsv)
    shares = system.mode_shares
    T = torch.eye(len(system.hsv), dtype=system.B.dtype, device=modes.device)[:, modes]
    return Truncation(
        eigenvalues=system.eigenvalues[modes],
        B=system.B[modes],
        C=system.C[:, modes],
        hsv=system.hsv,
        order=len(modes),
        error_bound=float(peaks[removed].sum()),
        T=T,
        W=T.mT,
        condition=1.0,
        energy_kept=float(shares[modes].sum() / shares.sum()),
        modes=modes,
    )

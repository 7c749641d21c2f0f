"""The nearest stable poles to those of a projection that is unstable."""

from __future__ import annotations

import torch

from ..hankel import Decomposition


def nearest_stable(poles: torch.Tensor, radius: float) -> torch.Tensor:
    """Poles (r,) of modulus 1 and more moved along their radius to modulus `radius` < 1, the
    nearest points of that disc; the others as they are."""
    size = poles.abs()
    return torch.where(size >= 1.0, poles * (radius / size), poles)


def slowest(system: Decomposition) -> float:
    """The largest modulus among a system's poles: a reduced one should remember no longer.

    No stable pole is nearest to an unstable one, since the open disc has no nearest point: some
    margin must be chosen, and the full system's own, below 1, depends on no scale. Where the
    projection is unstable by rounding alone, the full system has a pole as near to the circle.
    """
    return float(system.eigenvalues.abs().max())

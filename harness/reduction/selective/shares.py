"""Hankel shares of many real diagonal systems of one input and one output."""

from __future__ import annotations

import torch

from ..gramians import UnusableSystem, square_root
from ..parallel import side_by_side, workers

NUMBERS = 2**22  # in a batch of Gramians: 32 MB


def hankel_shares(losses: torch.Tensor, BB: torch.Tensor, CC: torch.Tensor) -> torch.Tensor:
    """The real diagonal of (P Q)^(1/2) in every channel, (D, N) float64, with P_ij = BB_ij / (1 -
    l_i l_j), Q_ij = CC_ij / (1 - l_i l_j), l = 1 - losses.

    Args:
        losses: (D, N). BB: (D, N, N), symmetric, and CC (1, N, N), of all channels; or b (D, N) and
            c (1, N), of which they are the products b b^T and c c^T.

    Raises:
        UnusableSystem: numbers that are not finite, or losses that are not positive.
    """
    check_means(losses, BB, CC)
    channels, n = losses.shape
    parts = max(1, -(-channels * n * n // NUMBERS))
    at_once = workers(n, losses.device)
    batches = list(zip(*(one.tensor_split(max(parts, at_once)) for one in (losses, BB)),
                       strict=True))  # fmt: skip

    def shares(given: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        R, L, U, _, Vh = factors(*given, CC)
        return ((R @ Vh.mT) * (L @ U)).sum(-1)

    return torch.cat(side_by_side(shares, batches, at_once))


def check_means(losses: torch.Tensor, *others: torch.Tensor) -> None:
    """Raise `UnusableSystem` for numbers that are not finite, or losses that are not positive."""
    if not all(bool(torch.isfinite(one).all()) for one in (losses, *others)):
        raise UnusableSystem("the means over the calibration examples must be finite")
    if float(losses.min()) <= 0.0:
        raise UnusableSystem("a state never decays on the calibration examples: its steps are zero")


def factors(losses: torch.Tensor, BB: torch.Tensor, CC: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """R and L (D, N, k) with P = R R^T and Q = L L^T, and U, hsv, Vh with L^T R = U diag(hsv) Vh.

    Arguments as for `hankel_shares`. k is the largest rank among the channels.
    """
    # 1 - (1 - a)(1 - b), with the digits of losses that are small.
    gaps = losses[:, :, None] + losses[:, None] - losses[:, :, None] * losses[:, None]
    if BB.dim() == 2:  # diag(b) K diag(b), whose root is that of K
        root = _root(1.0 / gaps)
        R, L = BB[..., None] * root, CC[..., None] * root
    else:
        R, L = _root(BB / gaps), _root(CC / gaps)
    return (R, L, *torch.linalg.svd(L.mT @ R, full_matrices=False))  # as many columns as either


def _root(gramians: torch.Tensor) -> torch.Tensor:
    """`square_root` without the columns that are rounding in every channel, (D, N, k): of systems
    with one input, few of the N are more."""
    R = square_root(gramians)
    scale = gramians.diagonal(dim1=-2, dim2=-1).sqrt()[..., None]
    strength = torch.where(scale > 0, R / scale, 0.0).square().sum(-2)  # ascending
    eps = torch.finfo(R.dtype).eps * R.shape[-1]
    counts = (strength > eps * strength.amax(-1, keepdim=True)).sum(-1)
    return R[..., R.shape[-1] - max(1, int(counts.max())) :]

"""Means over the steps that a task scores."""

from __future__ import annotations

import torch

from .base import UNSCORED


def scored_mean(values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The mean of `values`, of the targets' shape, where the target is not `UNSCORED`: a scalar,
    without waiting for the device. The others get no gradient."""
    scored = targets != UNSCORED
    return torch.where(scored, values, 0.0).sum() / scored.sum()

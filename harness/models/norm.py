"""Normalisation over batch and time, per channel, without affine parameters."""

from __future__ import annotations

import torch
from torch import nn

EPSILON = 1e-5


class BatchNorm(nn.Module):
    """Ordinary batch normalisation: batch statistics in training, running ones after it.

    Input and output (batch, length, H). Buffers running_mean, running_var (H,), float32; the
    running variance is unbiased, as in `torch.nn.BatchNorm1d`.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor
    momentum = 0.1

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        normal = nn.functional.batch_norm(
            flat,
            self.running_mean,
            self.running_var,
            training=self.training,
            momentum=self.momentum,
            eps=EPSILON,
        )
        return normal.reshape(x.shape)


class EmaBatchNorm(nn.Module):
    """The published code's normalisation: training, too, divides by running statistics.

    The first batch sets them; afterwards they keep 99 % and take 1 % of the newest batch, and
    the gradient flows through that 1 %. A running variance of zero everywhere marks the state
    before the first batch. Variances are biased.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor
    momentum = 0.99

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.zeros(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, var = self.running_mean, self.running_var
        if self.training:
            first = (self.running_var == 0).all()
            batch_mean = x.mean((0, 1))
            batch_var = (x - batch_mean).square().mean((0, 1))
            mean = torch.where(first, batch_mean, self.blend(mean, batch_mean))
            var = torch.where(first, batch_var, self.blend(var, batch_var))
            self.running_mean.copy_(mean.detach())
            self.running_var.copy_(var.detach())
        return (x - mean) * torch.rsqrt(var + EPSILON)

    def blend(self, old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """The running statistic after one more batch."""
        return self.momentum * old.clone() + (1 - self.momentum) * new


NORMS = {"batch": BatchNorm, "ema_batch": EmaBatchNorm, "none": lambda width: nn.Identity()}

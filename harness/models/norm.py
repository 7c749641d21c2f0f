"""Normalisation over batch and time, per channel, or over channels."""

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


class AffineBatchNorm(BatchNorm):
    """`BatchNorm`, then times `weight` plus `bias`, (H,) each: that of S5's and S4's authors."""

    def __init__(self, width: int):
        super().__init__(width)
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(self.bias, super().forward(x), self.weight)


class RMSNorm(nn.Module):
    """x over the root mean square of its channels (arXiv 1910.07467), (..., H) to the same.

    Without weights: what follows is linear, and has them.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.rms_norm(x, x.shape[-1:], eps=EPSILON)


NORMS = {
    "batch": BatchNorm,
    "ema_batch": EmaBatchNorm,
    "batch_affine": AffineBatchNorm,
    "rms": lambda width: RMSNorm(),
    "none": lambda width: nn.Identity(),
}

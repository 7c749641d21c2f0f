"""The causal convolution ahead of a selective scan, and how its layers are initialised."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import silu


def convolved(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """silu of the causal convolution of every channel, (batch, length, D), by weight (D, K) and
    bias (D,), of x with what was before it, (batch, K - 1 + length, D)."""
    taps = weight.unbind(1)
    length = x.shape[1] - len(taps) + 1
    y = bias + taps[0] * x[:, :length]
    for k, tap in enumerate(taps[1:], 1):
        y = torch.addcmul(y, tap, x[:, k : k + length].to(y.dtype))
    return silu(y)


def uniform(*shape: int, fan_in: int) -> torch.Tensor:
    """As torch initialises its layers: between -1 and 1 over the root of `fan_in`."""
    return torch.empty(shape).uniform_(-1.0, 1.0) / math.sqrt(fan_in)

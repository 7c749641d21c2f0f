"""Losses and metrics of logits; metrics are sums, so that batches of any size add up."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import cross_entropy as torch_cross_entropy
from torch.nn.functional import mse_loss

from harness.tasks.base import UNSCORED
from harness.tasks.metrics import measure
from harness.tasks.scored import scored_mean


def loss_of(kind: str, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The training loss, a scalar: mean cross-entropy in nats, or mean squared error.

    Args:
        kind: `TaskInfo.kind`.
        logits: (batch, outputs), or (batch, length, outputs) for a loss at every step.
        targets: (batch,) or (batch, length) int64, some of them perhaps `UNSCORED`, and then the
            mean is over the others; regression: the shape of the logits.
    """
    if kind == "regression":
        return mse_loss(logits, targets)
    return torch_cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=UNSCORED)


def published_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, unscored: bool = False
) -> torch.Tensor:
    """The published code's loss: softmax in the head, then -log(p + 1e-8), mean over the batch.

    unscored: targets may be `UNSCORED`, and the mean is over the others. (Without, the mean is
    torch's own, whose bits on a GPU are not those of a sum and a quotient.)
    """
    if not unscored:
        p = logits.softmax(-1).gather(-1, targets[..., None])
        return -(p + 1e-8).log().mean()
    classes = torch.where(targets == UNSCORED, 0, targets)
    p = logits.softmax(-1).gather(-1, classes[..., None])[..., 0]
    return scored_mean(-(p + 1e-8).log(), targets)


def metric_sum(metric: str, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """A metric's sum over the batch: a float64 scalar on the device, without waiting for it.

    It counts hits, or sums -log2 p or squares; `value` of `harness.tasks.metrics` turns the sum
    into the metric. A target that is `UNSCORED` adds nothing. Raises ValueError for an unknown
    metric.
    """
    adds = measure(metric).adds
    if adds == "hits":
        return (logits.argmax(-1) == targets).sum().double()  # (no class is `UNSCORED`)
    if adds == "squares":
        return (logits - targets).square().sum().double()
    nats = torch_cross_entropy(
        logits.flatten(0, -2), targets.flatten(), ignore_index=UNSCORED, reduction="sum"
    )
    return nats.double() / math.log(2)

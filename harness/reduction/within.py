"""Sizes from a bound on the loss: the smallest whose measured change stays under it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from harness.models.orders import Order

from .ranks import BlockDecomposition, ranks
from .weighting.calibration import Calibration, parts, undisturbed

BISECTIONS = 16  # of tau; sizes that were measured once are not measured again

Cut = Callable[[nn.Module, list[Order]], Any]  # truncates a model to these orders


def bisected(
    model: nn.Module,
    decomposed: Sequence[BlockDecomposition],
    max_loss: float,
    calibration: Calibration,
    cut: Cut,
) -> tuple[list[Order], list[tuple[Order, ...]]]:
    """The energy ranks of the largest common tau at which the loss on held-out examples is at most
    `max_loss` above the full model's, by bisection; and all orders at which the loss was measured,
    the model's own first.

    Every candidate is truncated, in a copy, and measured, so what is found does hold on these
    examples. That the loss grows with tau is assumed between them.

    Raises:
        ValueError: a negative bound, no loss, no held-out examples, or a loss that is not finite.
    """
    check_max_loss(max_loss)
    allowed = mean_loss(model, calibration) + max_loss
    measured: dict[tuple[Order, ...], bool] = {}

    def holds(orders: list[Order]) -> bool:
        key = tuple(orders)
        if key not in measured:
            candidate = copy.deepcopy(model)
            cut(candidate, orders)
            measured[key] = mean_loss(candidate, calibration) <= allowed
        return measured[key]

    low, high = 0.0, math.nextafter(1.0, 0.0)
    kept = ranks(decomposed, tau=low)
    measured[tuple(kept)] = True
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        orders = ranks(decomposed, tau=middle)
        if holds(orders):
            low, kept = middle, orders
        else:
            high = middle
        if ranks(decomposed, tau=high) == kept:
            break
    return kept, list(measured)


def check_max_loss(max_loss: float) -> None:
    """Raise `ValueError` unless it is a finite number from 0 on."""
    if not (isinstance(max_loss, (int, float)) and math.isfinite(max_loss) and max_loss >= 0.0):
        raise ValueError(f"max_loss must be a number from 0 on, not {max_loss!r}")


@torch.no_grad()
def mean_loss(model: nn.Module, calibration: Calibration) -> float:
    """The loss on the held-out examples, in evaluation mode, a mean over examples."""
    if calibration.loss is None:
        raise ValueError("max_loss needs `loss`")
    total, count = 0.0, 0
    with undisturbed(model):
        for batch in calibration.held_out:
            x, y = parts(batch)
            total += float(calibration.loss(model(x), y).mean()) * len(x)
            count += len(x)
    if not count:
        raise ValueError("max_loss needs held-out examples: give five calibration batches or more")
    if not math.isfinite(total):
        raise ValueError("max_loss needs a finite loss on the held-out examples")
    return total / count

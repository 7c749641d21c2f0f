"""Sizes from a bound on the loss: the smallest whose measured change stays under it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from harness.models.orders import Order

from .balanced import TruncationError
from .ranks import BlockDecomposition, ranks
from .weighting.calibration import Calibration, parts, undisturbed
from .weighting.measured import weighting_under

BISECTIONS = 16  # of tau; sizes that were measured once are not measured again
OPENINGS = 4  # candidates at most that the prediction chooses
NUDGE = 1.5  # beyond the bound, in predicted change, so that the next candidate falls behind it
FURTHEST = 256.0  # of a step from one to the next

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
    examples. That the loss grows with tau is assumed between them; a candidate without a usable
    diagonal form does not hold. Where the change can be predicted (`predicted_rise`), bisection
    begins in a bracket around what the prediction gives.

    Raises:
        ValueError: a negative bound, no loss, no held-out examples, or a loss that is not finite.
    """
    check_max_loss(max_loss)
    kept = ranks(decomposed, tau=0.0)
    losses = {tuple(kept): mean_loss(model, calibration)}
    whole = losses[tuple(kept)]
    bracket = Bracket(0.0, math.nextafter(1.0, 0.0), kept)

    def rise(tau: float) -> float:
        orders = ranks(decomposed, tau=tau)
        key = tuple(orders)
        if key not in losses:
            candidate = copy.deepcopy(model)
            try:
                cut(candidate, orders)
                losses[key] = mean_loss(candidate, calibration)
            except TruncationError:
                losses[key] = math.inf
        bracket.narrow(tau, orders, losses[key] <= whole + max_loss)
        return losses[key] - whole

    if max_loss > 0.0 and predicts(decomposed, calibration.length):
        _open(bracket, decomposed, max_loss, rise, calibration.length or 1)
    for _ in range(BISECTIONS):
        rise((bracket.low + bracket.high) / 2)
        if ranks(decomposed, tau=bracket.high) == bracket.kept:
            break
    return bracket.kept, list(losses)


@dataclass
class Bracket:
    """The bound holds at tau `low`, at the orders `kept`, and not at `high` (or was not tried)."""

    low: float
    high: float
    kept: list[Order]

    def narrow(self, tau: float, orders: list[Order], holds: bool) -> None:
        """Move the side that tau replaces."""
        if holds:
            self.low, self.kept = tau, orders
        else:
            self.high = tau


def _open(
    bracket: Bracket,
    decomposed: Sequence[BlockDecomposition],
    max_loss: float,
    rise: Callable[[float], float],
    length: int,
) -> None:
    """Narrow the bracket where the bound is predicted to be, from either side; what a candidate
    measures rescales the prediction for the next."""
    asked, sides = max_loss, set()
    for _ in range(OPENINGS):
        tau = _tau_of(decomposed, asked, length)
        if not bracket.low < tau < bracket.high:
            return
        found = rise(tau)
        holds = bracket.low == tau
        sides.add(holds)
        if len(sides) == 2:
            return
        ratio = max_loss / found if found > 0.0 else math.inf
        further = max(ratio * NUDGE, NUDGE) if holds else min(ratio / NUDGE, 1.0 / NUDGE)
        found = predicted_rise(decomposed, ranks(decomposed, tau=tau), length)
        asked = found * min(max(further, 1.0 / FURTHEST), FURTHEST)


def _tau_of(decomposed: Sequence[BlockDecomposition], asked: float, length: int) -> float:
    """The largest tau whose energy ranks are predicted to raise the loss by no more."""
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        below = predicted_rise(decomposed, ranks(decomposed, tau=middle), length) <= asked
        low, high = (middle, high) if below else (low, middle)
    return low


def predicts(decomposed: Sequence[BlockDecomposition], length: int | None) -> bool:
    """Whether `predicted_rise` has what it needs: states of the signal, seen by the task."""
    systems = [one for block in decomposed for one in block.systems]
    under = [weighting_under(one) for one in systems]
    return length is not None and all(
        one is not None
        and (one.controllability, one.observability) == ("signal", "task")
        and one.target in ("loss", "fisher")  # whose gradients are the loss's
        and not one.normalise
        for one in under
    )


def predicted_rise(
    decomposed: Sequence[BlockDecomposition], orders: Sequence[Order], length: int
) -> float:
    """length / 4 times the sum of squares of the weighted singular values left out, in the units of
    the loss. See harness/reduction/weighting/README.md for what that assumes.

    decomposed: under signal and task, not normalised. length: steps of a sequence.
    """
    left_out = 0.0
    for block, order in zip(decomposed, orders, strict=True):
        asked = order if isinstance(order, tuple) else (order,)
        for one, r in zip(block.systems, asked, strict=True):
            left_out += float(one.hsv[r:].square().sum())
    return length / 4 * left_out


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

"""The training examples that a trial's truncation is weighted by, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from harness.models.description import gain_blocks
from harness.reduction import (
    BlockDecomposition,
    BlockTruncation,
    Calibration,
    Order,
    Refit,
    Weighting,
    layers,
    orders_within,
    weighted_decompositions,
)
from harness.tasks.base import Task

from .context import TrialContext
from .costs.flops import block_refit_flops, forward_flops, second_moment_flops, tokens_of
from .seeds import stream
from .state import RunState
from .step.feed import to_device
from .step.objective import loss_under


@dataclass(frozen=True)
class Examples:
    """Batches of some training examples, as often as they are iterated."""

    task: Task
    indices: np.ndarray
    batch: int
    device: torch.device

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for start in range(0, len(self.indices), self.batch):
            x, y = self.task.examples("train", self.indices[start : start + self.batch])
            yield to_device(x, self.device), to_device(y, self.device)


def calibration_of(context: TrialContext, state: RunState) -> Calibration:
    """Examples of the training split, drawn by seed and step alone."""
    spec, task, arm = context.spec, context.task, context.arm
    size, more = arm.calibration_size, arm.held_out_size
    seed = stream(spec.seed, "calibration", state.step)
    drawn = np.random.default_rng(seed).permutation(task.sizes["train"])
    both = drawn[:size], drawn[size : size + more]
    batch = min(spec.training.batch_size, size)
    batches, rest = (Examples(task, np.sort(one), batch, context.device) for one in both)
    loss = loss_under(spec, task.info)
    return Calibration(batches, rest, loss, task.info.length, seed)


def weighted_of(
    context: TrialContext, state: RunState, white: Sequence[BlockDecomposition]
) -> list[BlockDecomposition]:
    """The decompositions of the present model under the arm's weighting."""
    weighting, found = context.arm.weighting, dict(enumerate(layers(state.model)))
    assert weighting is not None
    calibration = calibration_of(context, state)
    weighed = weighted_decompositions(
        state.model, found, dict(enumerate(white)), weighting, calibration
    )
    return list(weighed.values())


def within(
    context: TrialContext, state: RunState, decomposed: Sequence[BlockDecomposition]
) -> Callable[[float], list[Order]]:
    """`Event.within` for the present model; what it measures costs FLOPs."""

    def found(max_loss: float) -> list[Order]:
        orders, times = orders_within(
            state.model,
            decomposed,
            max_loss,
            calibration_of(context, state),
            context.arm.weighting or Weighting(),
            context.arm.refitting or Refit(),
        )
        forward = forward_flops(context.spec.model, context.task.info, state.orders)
        examples = context.arm.held_out_size
        if context.arm.refitting is not None:
            examples += context.arm.calibration_size * (1 + 2 * context.arm.refitting.passes)
        state.truncation_flops += times * examples * forward  # at most: candidates are smaller
        return orders

    return found


def weighted_options(context: TrialContext, state: RunState) -> dict[str, Any]:
    """Further arguments of `truncate` where it looks at data."""
    weighting, refit = context.arm.weighting, context.arm.refitting
    if weighting is None and refit is None:
        return {}
    return {
        "gramians": weighting or Weighting(),
        "calibration": calibration_of(context, state),
        "refit": refit or Refit(),
    }


def forward_now(context: TrialContext, state: RunState) -> float:
    """FLOPs of the present model on one example."""
    gains = len(gain_blocks(state.model))
    return forward_flops(context.spec.model, context.task.info, state.orders, gains)


def refitting_flops(
    context: TrialContext,
    forward: float,
    changed: Sequence[tuple[BlockDecomposition, BlockTruncation]],
) -> float:
    """FLOPs of refitting these blocks, passes of the model at `forward` an example included, and of
    measuring their error where no weighting has counted that already."""
    arm = context.arm
    fits = arm.refitting
    if fits is None:
        return 0.0
    tokens = arm.calibration_size * tokens_of(context.task.info)
    found = arm.calibration_size * forward * (1 + 2 * fits.passes)
    found += arm.held_out_size * forward if arm.weighting is None else 0.0
    return found + sum(block_refit_flops(was, one, fits, tokens) for was, one in changed)


def calibration_flops(context: TrialContext, state: RunState) -> float:
    """FLOPs of measuring the Gramians, and the error on held-out examples, to leading order."""
    weighting, size = context.arm.weighting, context.arm.calibration_size
    assert weighting is not None
    info, model, orders = context.task.info, context.spec.model, state.orders
    forward = forward_now(context, state)
    found = forward * context.arm.held_out_size
    if not weighting.uses_data:
        return found
    tokens = size * tokens_of(info)
    by_task = weighting.observability == "task"
    sides = by_task + (weighting.controllability == "signal")
    moments = sum(second_moment_flops(order, model.width) for order in orders)
    return found + size * forward * (1 + 2 * weighting.passes) + sides * tokens * moments

"""The training examples that a trial's truncation is weighted by, and what they cost."""

from __future__ import annotations

import itertools
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
from .costs.flops import (
    all_spectra_flops,
    block_refit_flops,
    forward_flops,
    orders_flops,
    output_error_flops,
    second_moment_flops,
    tokens_of,
)
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
        orders, measured = orders_within(
            state.model,
            decomposed,
            max_loss,
            calibration_of(context, state),
            context.arm.weighting or Weighting(),
            context.arm.refitting or Refit(),
        )
        now = forward_now(context, state)
        for one in measured:
            forward = forward_flops(context.spec.model, context.task.info, one)
            state.truncation_flops += context.arm.held_out_size * forward
            state.truncation_flops += orders_flops(decomposed, one)
            state.truncation_flops += sweep_flops(context, state, decomposed, one)
            state.truncation_flops += refitting_flops(context, now, decomposed, one)
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
    decomposed: Sequence[BlockDecomposition],
    after: Sequence[Order],
) -> float:
    """FLOPs of refitting the blocks that change to these orders, with the passes of the model, at
    `forward` an example; 0 without a refit."""
    fits, size = context.arm.refitting, context.arm.calibration_size
    if fits is None:
        return 0.0
    both = zip(decomposed, after, strict=True)
    tokens = size * tokens_of(context.task.info)
    products = sum(block_refit_flops(one, r, fits, tokens) for one, r in both if one.order != r)
    return size * forward * (1 + 2 * fits.passes) + products


def calibration_flops(context: TrialContext, state: RunState) -> float:
    """FLOPs of measuring the Gramians, to leading order, and of the pass over held-out examples."""
    weighting = context.arm.weighting
    assert weighting is not None
    found = forward_now(context, state) * context.arm.held_out_size
    if not weighting.uses_data:
        return found
    return found + measuring_flops(context, state, state.orders, state.orders)


def measuring_flops(
    context: TrialContext, state: RunState, orders: Sequence[Order], measured: Sequence[Order]
) -> float:
    """FLOPs of the calibration examples' passes through the model at these orders, with the second
    moments of the states of the blocks measured, by their orders."""
    weighting, size = context.arm.weighting, context.arm.calibration_size
    assert weighting is not None
    info, model = context.task.info, context.spec.model
    forward = forward_flops(model, info, orders, len(gain_blocks(state.model)))
    tokens = size * tokens_of(info)
    by_task = weighting.observability == "task"
    sides = by_task + (weighting.controllability == "signal")
    moments = sum(second_moment_flops(order, model.width) for order in measured)
    return size * forward * (1 + 2 * weighting.passes) + sides * tokens * moments


def sweep_flops(
    context: TrialContext,
    state: RunState,
    decomposed: Sequence[BlockDecomposition],
    after: Sequence[Order],
) -> float:
    """FLOPs of measuring the blocks that change, but for the first, once more, each with those
    before it at their new orders; 0 where all are measured together."""
    weighting = context.arm.weighting
    if weighting is None or weighting.sweep != "in_order":
        return 0.0
    orders = [one.order for one in decomposed]
    changing = [i for i, order in enumerate(orders) if after[i] != order]
    found = 0.0
    for last, i in itertools.pairwise(changing):
        orders[last] = after[last]
        found += further_flops(context, state, orders, decomposed[i])
    return found


def further_flops(
    context: TrialContext, state: RunState, orders: Sequence[Order], block: BlockDecomposition
) -> float:
    """FLOPs of measuring and decomposing one block of a model at these orders."""
    return measuring_flops(context, state, orders, [block.order]) + all_spectra_flops([block])


def error_flops(context: TrialContext, before: BlockDecomposition, done: BlockTruncation) -> float:
    """FLOPs of a block's output error on the held-out examples, where it was measured, without the
    pass of the model."""
    if done.output_error is None:
        return 0.0
    tokens = context.arm.held_out_size * tokens_of(context.task.info)
    return tokens * output_error_flops(before, done)

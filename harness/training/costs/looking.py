"""FLOPs of looking at data: measured Gramians, sweeps, refits, errors on held-out examples."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from harness.models.description import gain_blocks
from harness.reduction import BlockDecomposition, BlockTruncation, Order, SelectiveDecomposition

from ..context import TrialContext
from ..state import RunState
from .flops import (
    BACKWARD_OVER_FORWARD,
    all_spectra_flops,
    block_refit_flops,
    covariance_flops,
    forward_flops,
    measured_flops,
    output_error_flops,
    pivoting_flops,
    saliency_flops,
    second_moment_flops,
    tokens_of,
)


def cut_flops(
    context: TrialContext,
    state: RunState,
    decomposed: Sequence[BlockDecomposition],
    after: Sequence[Order],
) -> float:
    """FLOPs of looking at data while the present model is taken to these orders, beyond what its
    decompositions have cost."""
    arm = context.arm
    found = sweep_flops(context, state, decomposed, after)
    found += refitting_flops(context, state, decomposed, after)
    if arm.weighting is None and arm.refitting is not None:  # else `calibration_flops` counts it
        found += held_out_size(context) * forward_now(context, state)
    return found


def held_out_size(context: TrialContext) -> int:
    """How many examples the error is measured on."""
    return context.arm.examples(context.spec.model)[1]


def selective_flops(
    context: TrialContext, state: RunState, decomposed: Sequence[BlockDecomposition]
) -> float:
    """FLOPs, to leading order, of measuring what stands in for selective layers: the passes of the
    model over all examples, those held out too, and what is summed over each step."""
    arm = context.arm
    size, held_out = arm.examples(context.spec.model)
    tokens = size * tokens_of(context.task.info)
    blocks = [one for one in decomposed if isinstance(one, SelectiveDecomposition)]
    sums = sum(measured_flops(one, arm.stand_in) for one in decomposed)
    forward = forward_now(context, state)
    found = (size + held_out) * forward + tokens * sums
    if arm.stand_in == "taylor":
        found += size * BACKWARD_OVER_FORWARD * forward
        found += sum(tokens * saliency_flops(context.spec.model, one) for one in blocks)
    if arm.stand_in == "drrqr":
        found += sum(pivoting_flops(one, tokens) for one in blocks)
    return found


def calibration_flops(context: TrialContext, state: RunState) -> float:
    """FLOPs of measuring the Gramians, to leading order, and of the pass over held-out examples."""
    weighting = context.arm.weighting
    assert weighting is not None
    found = forward_now(context, state) * held_out_size(context)
    if not weighting.uses_data:
        return found
    return found + measuring_flops(context, state, state.orders, state.orders)


def refitting_flops(
    context: TrialContext,
    state: RunState,
    decomposed: Sequence[BlockDecomposition],
    after: Sequence[Order],
) -> float:
    """FLOPs of refitting the blocks that change to these orders, with the passes of the model; 0
    without a refit."""
    fits, size = context.arm.refitting, context.arm.calibration_size
    if fits is None:
        return 0.0
    both = zip(decomposed, after, strict=True)
    tokens = size * tokens_of(context.task.info)
    products = sum(block_refit_flops(one, r, fits, tokens) for one, r in both if one.order != r)
    return size * forward_now(context, state) * (1 + 2 * fits.passes) + products


def forward_now(context: TrialContext, state: RunState) -> float:
    """FLOPs of the present model on one example."""
    gains = len(gain_blocks(state.model))
    return forward_flops(context.spec.model, context.task.info, state.orders, gains)


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
    moments = sides * sum(second_moment_flops(order, model.width) for order in measured)
    if weighting.controllability == "input":
        moments += sum(covariance_flops(order, model.width) for order in measured)
    return size * forward * (1 + 2 * weighting.passes) + tokens * moments


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
    tokens = held_out_size(context) * tokens_of(context.task.info)
    return tokens * output_error_flops(before, done)

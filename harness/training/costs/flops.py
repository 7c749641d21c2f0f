"""Analytic FLOP counts in the recurrence form, the same for every backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.models.orders import Order
from harness.models.specs import BackboneSpec
from harness.tasks.base import TaskInfo

if TYPE_CHECKING:
    from harness.reduction import (
        BlockDecomposition,
        BlockTruncation,
        Refit,
        SelectiveDecomposition,
        StandIn,
        SystemDecomposition,
    )

MIXERS = {"glu": 4, "half_glu1": 2, "half_glu2": 2, "linear": 2, "none": 0}  # FLOPs a token, in H^2
BACKWARD_OVER_FORWARD = 2
TRAIN_OVER_FORWARD = 1 + BACKWARD_OVER_FORWARD


def forward_flops(
    model: BackboneSpec, info: TaskInfo, state_dims: Sequence[Order], gains: int = 0
) -> float:
    """FLOPs of the forward pass of one example (both documents of a pair).

    `state_dims` has a number for every block, or the orders of its systems: each of the S systems
    of a stack costs 1/S of a layer whose systems all have its order.

    Per token and block: the layer's, plus 4 H^2 (GLU; 2 H^2 for a linear mixer, 0 for none); then
    encoder and head, and 2 H^2 for each of `gains` static gains. An embedding costs nothing.
    """
    H = model.width
    mixer = MIXERS[model.surroundings[1]] * H * H
    token = sum(_layer_flops(model, n) + mixer for n in state_dims)
    token += 2 * H * H * gains
    token += 2 * H * info.inputs if info.inputs is not None else 0
    tokens = tokens_of(info)
    if info.paired:
        head = 2 * (2 * H * H + H * (H // 2) + (H // 2) * info.outputs)
    elif info.pools:
        head = 2 * H * info.outputs
    else:
        head = 2 * H * info.outputs * info.length
    return float(token * tokens + head)


def tokens_of(info: TaskInfo) -> int:
    """Steps of one example, those of both documents of a pair."""
    return info.length * (2 if info.paired else 1)


def _layer_flops(model: BackboneSpec, order: Order) -> float:
    if isinstance(order, tuple):
        return sum(map(model.layer_flops, order)) / len(order)
    return model.layer_flops(order)


def step_flops(
    model: BackboneSpec, info: TaskInfo, state_dims: Sequence[Order], batch: int, gains: int = 0
) -> float:
    """FLOPs of one training step on `batch` examples."""
    return TRAIN_OVER_FORWARD * batch * forward_flops(model, info, state_dims, gains)


def spectrum_flops(n: int, width: int, is_real: bool = False) -> float:
    """FLOPs, to leading order, of the Gramians and Hankel singular values of one block.

    Complex arithmetic is counted as four real, and a real system of n stored states has 2 n of its
    own; Hermitian eigendecomposition 9 n^3 and singular
    value decomposition 22 n^3 (Golub and Van Loan, Matrix Computations, chapters 8.3 and 8.6).
    """
    if is_real:
        return spectrum_flops(2 * n, width) / 4
    return 4.0 * (2 * 2 * n * n * width + 2 * 9 * n**3 + 2 * n**3 + 22 * n**3)


def truncation_flops(n: int, r: int, width: int, is_real: bool = False) -> float:
    """FLOPs, to leading order, of truncating one block from n to r states, given its spectrum; of a
    real system from 2 n to 2 r.

    The nonsymmetric eigendecomposition counts 25 r^3 (same book, chapter 7.5).
    """
    if is_real:
        return truncation_flops(2 * n, 2 * r, width) / 4
    return 4.0 * (4 * n * n * r + 25 * r**3 + 4 * n * r * width)


def second_moment_flops(order: Order, width: int) -> float:
    """FLOPs per token of the second moments of one side's states: input, recurrence, products.

    For a stack, whose systems see one channel each, the first is one product a state.
    """
    from harness.reduction.weighting.states import outer_flops  # torch, which a plan does without

    if isinstance(order, tuple):
        return float(sum(4 * n + 8 * n + 8 * n * n for n in order))
    return 4.0 * order * width + 8.0 * order + outer_flops(order)


def covariance_flops(order: Order, width: int) -> float:
    """FLOPs per token of the second moment of a layer's inputs; of a stack, whose systems see one
    channel each, that of each channel."""
    return 2.0 * width * (1 if isinstance(order, tuple) else width)


def refit_flops(n: int, r: int, inputs: int, outputs: int, regressors: int) -> float:
    """FLOPs per token of the moments of a refit of one system: inputs and recurrences of both
    systems and the regressors, both outputs, and the products."""
    states = n + r + regressors
    products = 8 * regressors * regressors + 4 * outputs * regressors
    return float(4 * states * inputs + 8 * states + 4 * (n + r) * outputs + products)


def averaging_flops(channels: int, n: int) -> float:
    """FLOPs per token of the means over a selective layer's steps: decays and inputs of every
    channel and state, and the products of B and of C with themselves."""
    return 5.0 * channels * n + 4.0 * n * n


def head_averaging_flops(heads: int, groups: int, n: int) -> float:
    """The same of a layer with heads: decays and squared steps of heads, their inputs, and the
    products of every group."""
    return 4.0 * heads + 2.0 * heads * n + 4.0 * groups * n * n


def recurrence_flops(block: SelectiveDecomposition) -> float:
    """FLOPs per token of a selective layer's recurrence: per state and channel 6, or 5 where dt A
    is a number of a head."""
    return (6.0 if block.groups is None else 5.0) * block.channels * block.state_dim


def measured_flops(block: BlockDecomposition, how: str) -> float:
    """FLOPs per token of what stands in for a selective layer by this method."""
    from harness.reduction import SelectiveDecomposition

    if not isinstance(block, SelectiveDecomposition):
        return sum(stand_in_flops(one) for one in stand_ins_of(block))
    if how == "activation":  # outputs of each state, and their squares
        return recurrence_flops(block) + 2.0 * block.channels * block.state_dim
    if how in ("taylor", "drrqr"):  # with a backward pass, or of sampled steps
        return 0.0
    if block.groups is None:
        return averaging_flops(block.channels, block.state_dim)
    return head_averaging_flops(len(block.rates), block.groups, block.state_dim)


def stand_ins_of(block: BlockDecomposition) -> list[StandIn]:
    """The systems that stand in for a selective layer in a free basis; none of other layers."""
    from harness.reduction import StandIn

    return [one for one in block.systems if isinstance(one, StandIn)]


def stand_in_flops(one: StandIn) -> float:
    """FLOPs per token of measuring a channel, or a group of heads, whose states may take any basis:
    their inputs, a channel's decays at its own rates and on a grid, and products of features, once
    a group, and once for all channels, which is left out."""
    if one.curve is None:
        return 4.0 * one.state_dim**2
    return 3.0 * (one.state_dim + one.curve.size) + 2.0 * one.features


def stand_in_scan_flops(one: StandIn, order: int) -> float:
    """FLOPs per token of the recurrences that it stands for at this order: as `recurrence_flops`,
    and of the maps, which are there below as many states as features."""
    maps = 4.0 * one.features * order if order < one.features else 0.0
    return maps + (5.0 if one.curve is None else 6.0) * one.channels * order


def saliency_flops(model: BackboneSpec, block: SelectiveDecomposition) -> float:
    """FLOPs per token of what a selective layer's states are worth by `taylor`: the layer once
    more, forward and backward, beside the model."""
    return TRAIN_OVER_FORWARD * model.layer_flops(block.state_dim)


def pivoting_flops(block: SelectiveDecomposition, tokens: float) -> float:
    """FLOPs, to leading order, of what they are worth by `drrqr`: in every group the QR of B and C
    of the sampled steps, 2 m n^2 of m rows and n columns (Golub and Van Loan, chapter 5.2)."""
    from harness.reduction.selective.pivoting import STEPS

    rows = 2 * min(tokens, STEPS)
    return 2.0 * (block.groups or 1) * rows * block.state_dim**2


def shares_flops(channels: int, n: int) -> float:
    """FLOPs, to leading order, of the Hankel shares of a selective layer: in every channel two
    eigendecompositions and a singular value decomposition, real, as in `spectrum_flops`, and four
    products."""
    return float(channels * (2 * 9 + 22 + 4 * 2) * n**3)


def all_spectra_flops(decomposed: Sequence[BlockDecomposition]) -> float:
    """`spectrum_flops` of every system of these blocks, each at its own order; `shares_flops` of
    those that are selective."""
    from harness.reduction import SelectiveDecomposition, StandIn

    found = 0.0
    for block in decomposed:
        if isinstance(block, SelectiveDecomposition):
            found += shares_flops(block.solved, block.state_dim)
            continue
        for one in block.systems:
            if isinstance(one, StandIn):
                found += shares_flops(1, one.state_dim)
            else:
                found += spectrum_flops(one.state_dim, one.B.shape[-1], one.is_real)
    return found


def orders_flops(decomposed: Sequence[BlockDecomposition], orders: Sequence[Order]) -> float:
    """`truncation_flops` of taking these blocks to these orders, given their spectra."""
    from harness.reduction import SelectiveDecomposition

    found = 0.0
    for block, order in zip(decomposed, orders, strict=True):
        if isinstance(block, SelectiveDecomposition):  # whose states are chosen as they are
            continue
        asked = order if isinstance(order, tuple) else (order,)
        for one, r in zip(block.systems, asked, strict=True):
            found += system_truncation_flops(one, r)
    return found


def system_truncation_flops(one: SystemDecomposition, r: int) -> float:
    """`truncation_flops` of taking one system to r states, 0 where it has so many."""
    from harness.reduction import StandIn

    if r == one.state_dim:
        return 0.0
    whole = truncation_flops(one.state_dim, r, one.B.shape[-1], one.is_real)
    return whole / 4 if isinstance(one, StandIn) else whole  # which is real, state by state


def block_refit_flops(
    before: BlockDecomposition, after: Order, fits: Refit, tokens: float
) -> float:
    """FLOPs, to leading order, of the refit of a block's systems whose order changes, on so many
    tokens: their moments, and the solutions (Cholesky, n^3 / 3), of one sweep where B is fitted."""
    found = 0.0
    orders = after if isinstance(after, tuple) else (after,)
    for one, r in zip(before.systems, orders, strict=True):
        if one.state_dim == r:
            continue
        outputs, inputs = one.C.shape[-2], one.B.shape[-1]
        regressors = r * (inputs if fits.fits_b else fits.fits_c) + inputs * fits.fits_gain
        found += tokens * refit_flops(one.state_dim, r, inputs, outputs, regressors)
        found += (2 * regressors) ** 3 / 3
    return found


def block_truncation_flops(before: BlockDecomposition, done: BlockTruncation) -> float:
    """`truncation_flops` of those systems of a block whose order changed; none of choosing states
    as they are."""
    from harness.reduction import StateSelection

    if isinstance(done, StateSelection):
        return 0.0
    together = zip(before.systems, done.systems, strict=True)
    return sum((system_truncation_flops(one, new.order) for one, new in together), 0.0)


def output_error_flops(before: BlockDecomposition, done: BlockTruncation) -> float:
    """FLOPs per token of comparing a block's outputs with those of its truncation: of all systems,
    whole and reduced, inputs, recurrences and Re(C h); of a selective layer its recurrence once, or
    in a free basis before and after."""
    from harness.reduction import SelectiveDecomposition

    if isinstance(before, SelectiveDecomposition):
        return recurrence_flops(before)
    if stand_ins := stand_ins_of(before):
        both = zip(stand_ins, done.systems, strict=True)
        return sum(stand_in_scan_flops(one, n) for one, new in both
                   for n in (one.state_dim, new.order))  # fmt: skip
    together = zip(before.systems, done.systems, strict=True)
    sizes = ((one.state_dim + new.order, one.B.shape[-1], one.C.shape[-2])
             for one, new in together)  # fmt: skip
    return float(sum(4 * n * (inputs + outputs) + 8 * n for n, inputs, outputs in sizes))

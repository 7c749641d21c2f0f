"""The training examples that a trial's truncation looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from harness.models.layers.capabilities import Capability
from harness.reduction import (
    BlockDecomposition,
    Calibration,
    Order,
    Refit,
    Weighting,
    layers,
    orders_within,
    selective_decompositions,
    weighted_decompositions,
)
from harness.tasks.base import Task

from .context import TrialContext
from .costs.flops import forward_flops, orders_flops
from .costs.looking import held_out_size, refitting_flops, sweep_flops
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
    size, more = arm.examples(spec.model)
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


def is_selective(context: TrialContext) -> bool:
    """Whether the layers have no system of their own, and what stands in for it is measured."""
    return Capability.SURROGATE in context.spec.model.capabilities


def selective_of(context: TrialContext, state: RunState) -> list[BlockDecomposition]:
    """The decompositions of the present model of selective layers."""
    found = dict(enumerate(layers(state.model)))
    calibration = calibration_of(context, state)
    how = context.arm.stand_in
    return list(selective_decompositions(state.model, found, how, calibration).values())


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
            context.arm.balances_as,
        )
        for one in measured:
            forward = forward_flops(context.spec.model, context.task.info, one)
            state.truncation_flops += held_out_size(context) * forward
            state.truncation_flops += orders_flops(decomposed, one)
            state.truncation_flops += sweep_flops(context, state, decomposed, one)
            state.truncation_flops += refitting_flops(context, state, decomposed, one)
        return orders

    return found


def weighted_options(context: TrialContext, state: RunState) -> dict[str, Any]:
    """Further arguments of `truncate` where it looks at data."""
    weighting, refit = context.arm.weighting, context.arm.refitting
    if is_selective(context):
        calibration = calibration_of(context, state)
        return {"calibration": calibration, "selective": context.arm.stand_in}
    if weighting is None and refit is None:
        return {}
    return {
        "gramians": weighting or Weighting(),
        "calibration": calibration_of(context, state),
        "refit": refit or Refit(),
    }

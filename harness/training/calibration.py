"""The training examples that a trial's truncation looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from harness.reduction import (
    BlockDecomposition,
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
from .costs.flops import forward_flops, orders_flops
from .costs.looking import refitting_flops, sweep_flops
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
        for one in measured:
            forward = forward_flops(context.spec.model, context.task.info, one)
            state.truncation_flops += context.arm.held_out_size * forward
            state.truncation_flops += orders_flops(decomposed, one)
            state.truncation_flops += sweep_flops(context, state, decomposed, one)
            state.truncation_flops += refitting_flops(context, state, decomposed, one)
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

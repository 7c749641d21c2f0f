"""One loop for every arm: steps, with truncations and evaluations at their boundaries.

Everything at a boundary is a function of the explicit state, and checkpoints are taken only after a
boundary, so an interrupted run continues exactly as it would have.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from harness.models.description import gain_blocks

from .boundary import boundary
from .context import TrialContext
from .host.faults import Diverged
from .seeds import stream
from .state import RunState
from .step.optimizer import set_learning_rate

CHECK_EVERY = 25  # steps between checks of the loss; each check waits for the device


def train(context: TrialContext, state: RunState, after_boundary: Callable[[], None]) -> None:
    """Advance the state to its last step; `after_boundary` may checkpoint.

    Raises:
        Diverged: a NaN or infinite loss or validation metric, or an unstable system.
    """
    state.model.train()
    while True:
        if not state.settled:
            boundary(context, state)
            state.settled = True
            after_boundary()
        if state.step >= context.steps:
            return
        advance(context, state)
        state.settled = False


def advance(context: TrialContext, state: RunState) -> None:
    """Take optimizer steps up to the next boundary or the next check of the loss."""
    losses: list[torch.Tensor] = []
    while not losses or not looks(context, state.step):
        with context.clocks("train"):
            losses.append(next_step(context, state))
            while not (looks(context, state.step) or state.step in context.keep_at):
                losses.append(next_step(context, state))
        if state.step in context.keep_at:
            offer(context, state, losses)
    with context.clocks("train"):
        total = account(context, state, losses)
    if not math.isfinite(total):
        raise Diverged(f"the loss is {total} by step {state.step}")


def next_step(context: TrialContext, state: RunState) -> torch.Tensor:
    """Take one step and start loading the next batch; return the loss, without waiting for it."""
    training = context.spec.training
    x, y = context.feed.take(state.step)
    if context.spec.model.dropout:
        torch.manual_seed(stream(context.spec.seed, "dropout", state.step))
    set_learning_rate(state.optimizer, training, state.step, context.steps, context.arm.lr_factor)
    loss = optimizer_step(context, state, x, y)
    state.step += 1
    if state.step < context.steps:
        context.feed.prepare(state.step)
    return loss


def account(context: TrialContext, state: RunState, losses: list[torch.Tensor]) -> float:
    """Add steps taken at the present size to the totals; return the sum of their losses."""
    # In double precision, so that the sum does not depend on where boundaries fall.
    total = float(torch.stack(losses).double().sum())
    state.loss_sum += total
    state.loss_count += len(losses)
    batch_size = context.spec.training.batch_size
    dims, gains = state.orders, len(gain_blocks(state.model))
    state.train_flops += len(losses) * context.objective.step_flops(dims, batch_size, gains)
    return total


def offer(context: TrialContext, state: RunState, losses: list[torch.Tensor]) -> None:
    """Let the context keep the present state, with up-to-date totals; the run itself is unaffected.

    A diverged state is not kept: a trial that would fork here trains alone and finds the fault.
    """
    here = replace(state, settled=False)
    if math.isfinite(account(context, here, losses)):
        context.keep(here)


def optimizer_step(
    context: TrialContext, state: RunState, x: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    """Take one optimizer step; return its loss, without waiting for it."""
    loss = context.objective.backward(state.model, x, y)
    state.optimizer.step()
    return loss


def at_boundary(context: TrialContext, step: int) -> bool:
    """Whether something happens right after optimizer step `step`."""
    return (
        step in context.events
        or step % context.spec.training.evaluate_every == 0
        or step == context.steps
    )


def looks(context: TrialContext, step: int) -> bool:
    """Whether the loss is checked after this step."""
    return at_boundary(context, step) or step % CHECK_EVERY == 0


__all__ = ["train"]

"""One loop for every arm: steps, and at their boundaries truncations and evaluations.

Everything at a boundary is a function of the explicit state, and a checkpoint is only taken
behind a boundary, so that an interrupted run goes on exactly as it would have.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from harness.models.description import gain_blocks

from .boundary import boundary
from .faults import Diverged
from .optimizer import set_learning_rate
from .run import Run
from .seeds import stream
from .state import RunState

CHECK_EVERY = 25  # steps between looks at the loss; each look waits for the device


def train(run: Run, state: RunState, behind_boundary: Callable[[], None]) -> None:
    """Bring the state from where it is to its last step; `behind_boundary` may checkpoint.

    Raises:
        Diverged: a NaN or infinite loss or validation metric, or an unstable system.
    """
    state.model.train()
    while True:
        if not state.settled:
            boundary(run, state)
            state.settled = True
            behind_boundary()
        if state.step >= run.steps:
            return
        advance(run, state)
        state.settled = False


def advance(run: Run, state: RunState) -> None:
    """Optimizer steps up to the next boundary, or the next look at the loss."""
    losses: list[torch.Tensor] = []
    while not losses or not looks(run, state.step):
        with run.clocks("train"):
            losses.append(next_step(run, state))
            while not (looks(run, state.step) or state.step in run.keep_at):
                losses.append(next_step(run, state))
        if state.step in run.keep_at:
            offer(run, state, losses)
    with run.clocks("train"):
        total = account(run, state, losses)
    if not math.isfinite(total):
        raise Diverged(f"the loss is {total} by step {state.step}")


def next_step(run: Run, state: RunState) -> torch.Tensor:
    """Take one step and have the batch of the next on its way; the loss, not waited for."""
    training = run.spec.training
    x, y = run.feed.take(state.step)
    if run.spec.model.dropout:
        torch.manual_seed(stream(run.spec.seed, "dropout", state.step))
    set_learning_rate(state.optimizer, training, state.step, run.steps, run.lr_factor)
    loss = optimizer_step(run, state, x, y)
    state.step += 1
    if state.step < run.steps:
        run.feed.prepare(state.step)
    return loss


def account(run: Run, state: RunState, losses: list[torch.Tensor]) -> float:
    """Add steps that were taken at the present size to the sums; the sum of their losses."""
    # In double precision, where the sum does not depend on how boundaries cut it.
    total = float(torch.stack(losses).double().sum())
    state.loss_sum += total
    state.loss_count += len(losses)
    batch_size = run.spec.training.batch_size
    dims, gains = state.model.state_dims, len(gain_blocks(state.model))
    state.train_flops += len(losses) * run.objective.step_flops(dims, batch_size, gains)
    return total


def offer(run: Run, state: RunState, losses: list[torch.Tensor]) -> None:
    """Have the state kept as it is here, its sums up to date; the run itself goes on untouched.

    A broken state is not offered: who parts here finds out by itself, as it would have alone.
    """
    here = replace(state, settled=False)
    if math.isfinite(account(run, here, losses)):
        run.keep(here)


def optimizer_step(run: Run, state: RunState, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """One optimizer step; its loss, which nothing has waited for."""
    loss = run.objective.backward(state.model, x, y)
    state.optimizer.step()
    return loss


def at_boundary(run: Run, step: int) -> bool:
    """Whether something is to be done right after optimizer step `step`."""
    return step in run.events or step % run.spec.training.evaluate_every == 0 or step == run.steps


def looks(run: Run, step: int) -> bool:
    """Whether the loss is looked at after this step."""
    return at_boundary(run, step) or step % CHECK_EVERY == 0


__all__ = ["Run", "train"]

"""One loop for every arm: steps, and at their boundaries truncations and evaluations.

Everything at a boundary is a function of the explicit state, and a checkpoint is only taken
behind a boundary, so that an interrupted run goes on exactly as it would have.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from harness.reduction import Decomposition, Moments, UnusableSystem, decompositions, truncate
from harness.suite.specs import TrialSpec
from harness.tasks.base import Task

from .clocks import Clocks
from .evaluate import evaluate
from .feed import Feed
from .flops import spectrum_flops, step_flops, truncation_flops
from .graphs import Graphed, plain, refusal
from .loss import loss_of
from .optimizer import set_learning_rate
from .seeds import stream
from .state import RunState, Selected

CHECK_EVERY = 25  # steps between looks at the loss; each look waits for the device


class Diverged(Exception):
    """A NaN or infinite loss or metric, or a broken system: a result, not a fault."""


@dataclass
class Run:
    """What stays fixed while the state moves.

    `keep` is called with the state right after each step of `keep_at`, its boundary not yet
    behind it: a trial that parts there can begin from it.
    """

    spec: TrialSpec
    task: Task
    device: torch.device
    clocks: Clocks
    steps: int
    lr_factor: float = 1.0
    keep_at: frozenset[int] = frozenset()
    keep: Callable[[RunState], None] = lambda _: None

    def __post_init__(self) -> None:
        self.events = frozenset(self.spec.arm.events(self.spec.training.steps))
        batch_size = self.spec.training.batch_size
        self.feed = Feed(self.task, batch_size, self.spec.seed, self.device)
        graphed = refusal(self.spec, self.task.info, self.device) is None
        self.backward = Graphed() if graphed else plain


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
    flops = step_flops(run.spec.model, run.task.info, state.model.state_dims, batch_size)
    state.train_flops += len(losses) * int(flops)
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
    loss = run.backward(state.model, partial(loss_of, run.task.info.kind), x, y)
    state.optimizer.step()
    return loss


def at_boundary(run: Run, step: int) -> bool:
    """Whether something is to be done right after optimizer step `step`."""
    return step in run.events or step % run.spec.training.evaluate_every == 0 or step == run.steps


def looks(run: Run, step: int) -> bool:
    """Whether the loss is looked at after this step."""
    return at_boundary(run, step) or step % CHECK_EVERY == 0


def boundary(run: Run, state: RunState) -> None:
    """Truncate if it is time and ranks say so; else evaluate if it is time."""
    decomposed, ranks = None, state.model.state_dims
    begun = run.clocks.seconds["truncate"]
    if state.step in run.events:
        decomposed, ranks = ask_for_ranks(run, state)
    truncates = ranks != state.model.state_dims
    evaluates = state.step > 0 and state.step % run.spec.training.evaluate_every == 0
    evaluates = evaluates or state.step == run.steps
    if state.step == 0 or truncates or evaluates:
        record_spectra(run, state, decomposed)
    if truncates:
        assert decomposed is not None
        truncation_event(run, state, ranks, decomposed, begun)
    elif evaluates:
        record_evaluation(run, state)


def ask_for_ranks(run: Run, state: RunState) -> tuple[list[Decomposition], list[int]]:
    """What the arm's ranks are made from, and the ranks; the time is the truncation's."""
    with run.clocks("truncate"):
        decomposed = decompositions_of(state)
        ranks = run.spec.arm.ranks([one.hsv for one in decomposed])
    width = run.spec.model.width
    state.truncation_flops += sum(spectrum_flops(len(one.hsv), width) for one in decomposed)
    return decomposed, ranks


def truncation_event(
    run: Run, state: RunState, ranks: list[int], decomposed: list[Decomposition], begun: float
) -> None:
    """Truncate to the ranks, and record the metric before and after, and the spectra after.

    `begun` is what its clock showed before anything was done for this event.
    """
    model, H = state.model, run.spec.model.width
    before = model.state_dims
    val_before = validate(run, state)
    with run.clocks("truncate"):
        moments: Moments = getattr(run.spec.arm, "moments", "reset")
        truncate(
            model,
            state_dims=ranks,
            optimizer=state.optimizer,
            moments=moments,
            decomposed=decomposed,
        )
    seconds = run.clocks.seconds["truncate"] - begun
    state.selected = None  # a model of the size before is no candidate any more
    record_spectra(run, state)
    val_after = record_evaluation(run, state)
    for i, (one, n, r) in enumerate(zip(decomposed, before, model.state_dims, strict=True)):
        state.truncation_flops += truncation_flops(n, r, H) if r < n else 0.0
        state.truncations.append(
            {
                "step": state.step,
                "block": i,
                "dim_before": n,
                "dim_after": r,
                "tau": getattr(run.spec.arm, "tau", None),
                "energy_kept": float(one.hsv[:r].sum() / one.hsv.sum()),
                "error_bound": 2.0 * float(one.hsv[r:].sum()),
                "val_before": val_before,
                "val_after": val_after,
                "seconds": seconds,
            }
        )


def validate(run: Run, state: RunState) -> float:
    """The validation metric of the present model.

    Raises:
        Diverged: it is not finite.
    """
    with run.clocks("evaluate"):
        value = evaluate(state.model, run.task, "validation", run.device)
    if not math.isfinite(value):
        raise Diverged(f"the validation {run.task.metric} is {value} at step {state.step}")
    return value


def record_evaluation(run: Run, state: RunState) -> float:
    """Validate, record, and keep the model if it is the best of its size (strict protocol)."""
    value = validate(run, state)
    seconds = run.clocks.total
    if state.loss_count:
        record_point(state, "train", "loss", state.loss_sum / state.loss_count, seconds)
        state.loss_sum, state.loss_count = 0.0, 0
    record_point(state, "validation", run.task.metric, value, seconds)
    best = state.selected
    sign = 1.0 if run.task.higher_is_better else -1.0
    if best is None or sign * value > sign * best.value:
        weights = {k: v.detach().clone() for k, v in state.model.state_dict().items()}
        state.selected = Selected(state.step, value, weights, state.model.state_dims)
    return value


def record_point(state: RunState, split: str, metric: str, value: float, seconds: float) -> None:
    """One point of a curve."""
    state.curves.append(
        {"step": state.step, "split": split, "metric": metric, "value": value, "seconds": seconds}
    )


def record_spectra(
    run: Run, state: RunState, decomposed: list[Decomposition] | None = None
) -> None:
    """Hankel singular values and mode shares of every block, on their own clock.

    `decomposed` is what a truncation at this step has found already, on its clock.
    """
    with run.clocks("spectra"):
        rows: list[dict[str, Any]] = [
            {
                "step": state.step,
                "block": i,
                "hankel_singular_values": one.hsv.tolist(),
                "mode_shares": one.mode_shares.tolist(),
            }
            for i, one in enumerate(decomposed or decompositions_of(state))
        ]
    state.spectra.extend(rows)


def decompositions_of(state: RunState) -> list[Decomposition]:
    """What the spectra, and a truncation, of the present model need.

    Raises:
        Diverged: the last step left a NaN, infinite or unstable system. Whether the loss shows
            it yet depends on when one looks; that the training is over does not.
    """
    try:
        return decompositions(state.model)
    except UnusableSystem as error:
        raise Diverged(f"the system is broken at step {state.step}: {error}") from error


__all__ = ["Diverged", "Run", "train"]

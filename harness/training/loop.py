"""One loop for every arm: steps, and at their boundaries truncations and evaluations.

Everything at a boundary is a function of the explicit state, and a checkpoint is only taken
behind a boundary, so that an interrupted run goes on exactly as it would have.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from harness.reduction import Moments, layers, spectra, truncate
from harness.suite.specs import TrialSpec
from harness.tasks import step_indices
from harness.tasks.base import Task

from .clocks import Clocks
from .evaluate import evaluate
from .flops import spectrum_flops, step_flops, truncation_flops
from .loss import loss_of
from .optimizer import set_learning_rate
from .seeds import stream
from .state import RunState, Selected

CHECK_EVERY = 25  # steps between looks at the loss; each look waits for the device


class Diverged(Exception):
    """A NaN or infinite loss or metric: a result, not a fault."""


@dataclass
class Run:
    """What stays fixed while the state moves."""

    spec: TrialSpec
    task: Task
    device: torch.device
    clocks: Clocks
    steps: int
    lr_factor: float = 1.0

    def __post_init__(self) -> None:
        self.events = frozenset(self.spec.arm.events(self.spec.training.steps))


def train(run: Run, state: RunState, behind_boundary: Callable[[], None]) -> None:
    """Bring the state from where it is to its last step; `behind_boundary` may checkpoint.

    Raises:
        Diverged: a NaN or infinite loss or validation metric.
    """
    state.model.train()
    if not state.started:
        record_spectra(run, state)
        boundary(run, state)
        state.started = True
        behind_boundary()
    while state.step < run.steps:
        advance(run, state)
        boundary(run, state)
        behind_boundary()


def advance(run: Run, state: RunState) -> None:
    """Optimizer steps up to the next boundary, or the next look at the loss."""
    training = run.spec.training
    model, optimizer = state.model, state.optimizer
    with run.clocks("train"):
        losses = []
        size = run.task.sizes["train"]
        while True:
            indices = step_indices(size, training.batch_size, run.spec.seed, state.step)
            x, y = run.task.examples("train", indices)
            if run.spec.model.dropout:
                torch.manual_seed(stream(run.spec.seed, "dropout", state.step))
            set_learning_rate(optimizer, training, state.step, run.steps, run.lr_factor)
            logits = model(x.to(run.device, non_blocking=True))
            loss = loss_of(run.task.info.kind, logits, y.to(run.device, non_blocking=True))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            state.step += 1
            if at_boundary(run, state.step) or state.step % CHECK_EVERY == 0:
                break
        # In double precision, where the sum does not depend on how boundaries cut it.
        total = float(torch.stack(losses).double().sum())
    state.loss_sum += total
    state.loss_count += len(losses)
    flops = step_flops(run.spec.model, run.task.info, model.state_dims, training.batch_size)
    state.train_flops += len(losses) * flops
    if not math.isfinite(total):
        raise Diverged(f"the loss is {total} by step {state.step}")


def at_boundary(run: Run, step: int) -> bool:
    """Whether something is to be done right after optimizer step `step`."""
    return step in run.events or step % run.spec.training.evaluate_every == 0 or step == run.steps


def boundary(run: Run, state: RunState) -> None:
    """Truncate if it is time and ranks say so; else evaluate if it is time."""
    if state.step in run.events and truncation_event(run, state):
        return
    evaluation_step = state.step > 0 and state.step % run.spec.training.evaluate_every == 0
    if evaluation_step or state.step == run.steps:
        if state.step > 0:
            record_spectra(run, state)
        record_evaluation(run, state)


def truncation_event(run: Run, state: RunState) -> bool:
    """Ask the arm for ranks and truncate to them; whether any block changed."""
    model, H = state.model, run.spec.model.width
    before = model.state_dims
    with run.clocks("truncate"):
        values = [hsv for hsv, _ in spectra_of(state)]
        ranks = run.spec.arm.ranks(values)
        state.truncation_flops += sum(spectrum_flops(n, H) for n in before)
    if ranks == before:
        return False
    if state.step > 0:
        record_spectra(run, state)
    val_before = validate(run, state)
    start = time.perf_counter()
    with run.clocks("truncate"):
        moments: Moments = getattr(run.spec.arm, "moments", "reset")
        truncate(model, state_dims=ranks, optimizer=state.optimizer, moments=moments)
    seconds = time.perf_counter() - start
    state.selected = None  # a model of the size before is no candidate any more
    record_spectra(run, state)
    val_after = record_evaluation(run, state)
    for i, (hsv, n, r) in enumerate(zip(values, before, model.state_dims, strict=True)):
        state.truncation_flops += truncation_flops(n, r, H) if r < n else 0.0
        state.truncations.append(
            {
                "step": state.step,
                "block": i,
                "dim_before": n,
                "dim_after": r,
                "tau": getattr(run.spec.arm, "tau", None),
                "energy_kept": float(hsv[:r].sum() / hsv.sum()),
                "error_bound": 2.0 * float(hsv[r:].sum()),
                "val_before": val_before,
                "val_after": val_after,
                "seconds": seconds,
            }
        )
    return True


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


def record_spectra(run: Run, state: RunState) -> None:
    """Hankel singular values and mode shares of every block, on their own clock."""
    with run.clocks("spectra"):
        rows: list[dict[str, Any]] = [
            {
                "step": state.step,
                "block": i,
                "hankel_singular_values": hsv.tolist(),
                "mode_shares": shares.tolist(),
            }
            for i, (hsv, shares) in enumerate(spectra_of(state))
        ]
    state.spectra.extend(rows)


def spectra_of(state: RunState) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Hankel singular values and mode shares of every block.

    Raises:
        Diverged: the last step left NaN or infinite systems; the loss has not shown it yet.
    """
    try:
        return spectra(state.model)
    except ValueError as error:
        systems = [part for layer in layers(state.model) for part in layer.system()]
        if all(bool(torch.isfinite(torch.view_as_real(part)).all()) for part in systems):
            raise
        raise Diverged(f"a block's system is NaN or infinite at step {state.step}") from error


__all__ = ["Diverged", "Run", "train"]

"""What is done right after a step: truncations and evaluations, as the arm and protocol say.

Everything here is a function of the explicit state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.arms import Turn
from harness.models.layers.capabilities import Capability
from harness.reduction import Decomposition, UnusableSystem, decompositions, truncate

from .evaluate import evaluate
from .faults import Diverged
from .flops import spectrum_flops, truncation_flops
from .run import Run
from .seeds import stream
from .selection import consider
from .state import Kept, RunState, install, snapshot


def boundary(run: Run, state: RunState) -> None:
    """Truncate if it is time and ranks say so; else evaluate if it is time."""
    decomposed = None
    if state.step in run.events and not state.stopped:
        decomposed = act(run, state)
        if decomposed is None:
            return
    evaluates = state.step > 0 and state.step % run.spec.training.evaluate_every == 0
    evaluates = evaluates or state.step == run.steps
    if state.step == 0 or evaluates:
        record_spectra(run, state, decomposed)
    if evaluates:
        record_evaluation(run, state, measure(run, state))


def act(run: Run, state: RunState) -> list[Decomposition] | None:
    """An event of the arm. None where it changed the model, which is evaluated then; else what
    the ranks, which are the present sizes, were made from."""
    arm = run.spec.arm
    trained = state.step
    if arm.from_best:
        trained = take_best(run, state)
    careful = getattr(arm, "rule", None) == "pragmatic"
    val_before = measure(run, state) if careful else None
    if val_before is not None and roll_back(run, state, val_before):
        return None
    if arm.from_best:
        assert state.selected is not None
        val_before = state.selected.value
    begun = run.clocks.seconds["truncate"]
    turn = turn_of(run, state)
    decomposed, ranks = ask_for_ranks(run, state, turn)
    if ranks == state.model.state_dims:
        if not arm.from_best:
            return decomposed
        record_spectra(run, state, decomposed)
        return None  # the best model was evaluated already
    record_spectra(run, state, decomposed)
    if val_before is None:
        val_before = measure(run, state)
    if careful:
        state.kept = Kept(snapshot(state), state.model.state_dims, val_before, state.selected)
    truncation_event(run, state, turn, ranks, decomposed, begun, val_before)
    if state.selected is not None:
        state.selected.step = trained
    return None


def turn_of(run: Run, state: RunState) -> Turn:
    """The event that is on, with a generator that depends on seed and step only."""
    seed = stream(run.spec.seed, "truncation", state.step)
    return Turn(run.events.index(state.step), len(run.events), np.random.default_rng(seed))


def take_best(run: Run, state: RunState) -> int:
    """Go back to the best model so far, the newest among the candidates; its steps."""
    record_evaluation(run, state, measure(run, state))
    assert state.selected is not None
    state.model.load_state_dict(state.selected.weights)
    return state.selected.step


def roll_back(run: Run, state: RunState, value: float) -> bool:
    """Where validation has fallen too far behind the last cut: undo the cut, and cut no more."""
    kept, sign = state.kept, run.sign
    if kept is None or sign * value >= sign * kept.value - run.spec.arm.tolerance:
        return False
    before = state.model.state_dims
    with run.clocks("truncate"):
        install(state, kept.tensors, kept.state_dims)
    state.kept, state.stopped = None, True
    record_spectra(run, state)
    event: float | None = value
    if run.protocol.selects == "best":  # the best of this size is a candidate again
        state.selected, event = kept.selected, None
    val_after = record_evaluation(run, state, validate(run, state), event)
    rows = [
        {"block": i, "dim_before": r, "dim_after": n}
        for i, (r, n) in enumerate(zip(before, kept.state_dims, strict=True))
    ]
    record_truncations(state, rows, val_before=value, val_after=val_after, seconds=0.0)
    return True


def ask_for_ranks(run: Run, state: RunState, turn: Turn) -> tuple[list[Decomposition], list[int]]:
    """What the arm's ranks are made from, and the ranks; the time is the truncation's."""
    with run.clocks("truncate"):
        decomposed = decompositions_of(state)
        ranks = run.spec.arm.ranks(decomposed, turn)
    width = run.spec.model.width
    state.truncation_flops += sum(spectrum_flops(len(one.hsv), width) for one in decomposed)
    return decomposed, ranks


def truncation_event(
    run: Run,
    state: RunState,
    turn: Turn,
    ranks: list[int],
    decomposed: list[Decomposition],
    begun: float,
    val_before: float,
) -> None:
    """Truncate to the ranks, and record the metric before and after, and the spectra after.

    `begun` is what its clock showed before anything was done for this event.
    """
    model, arm, H = state.model, run.spec.arm, run.spec.model.width
    before = model.state_dims
    with run.clocks("truncate"):
        done = truncate(
            model,
            state_dims=ranks,
            optimizer=state.optimizer,
            decomposed=decomposed,
            generator=turn.generator,
            **arm.manner,
        )
    seconds = run.clocks.seconds["truncate"] - begun
    record_spectra(run, state)
    val_after = record_evaluation(run, state, validate(run, state), event=val_before)
    changed = iter(done)
    rows: list[dict[str, Any]] = []
    for i, (n, asked, r) in enumerate(zip(before, ranks, model.state_dims, strict=True)):
        one = next(changed) if asked != n else None
        state.truncation_flops += truncation_flops(n, r, H) if one else 0.0
        kept = {
            "energy_kept": one.energy_kept if one else 1.0,
            "error_bound": one.error_bound if one else 0.0,
        }
        rows.append({"block": i, "dim_before": n, "dim_after": r, **kept})
    by_energy = getattr(arm, "rule", "energy") == "energy"
    tau = getattr(arm, "tau", None) if by_energy else None
    record_truncations(
        state, rows, tau=tau, val_before=val_before, val_after=val_after, seconds=seconds
    )


def measure(run: Run, state: RunState) -> float:
    """An evaluation as the protocol has it, on its clock: validation, and what else it passes."""
    begun = run.clocks.seconds["evaluate"]
    if run.protocol.trains_pass and state.step > 0:
        with run.clocks("evaluate"):
            value = evaluate(state.model, run.task, "train", run.device)
        record_point(state, "train", run.task.metric, value, run.clocks.total)
    value = validate(run, state)
    state.seconds_passes += run.clocks.seconds["evaluate"] - begun
    return value


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


def record_evaluation(run: Run, state: RunState, value: float, event: float | None = None) -> float:
    """Record a validation, and keep the model if the protocol selects it.

    `event` is the value before the truncation that has just been made, if one has.
    """
    seconds = run.clocks.total
    if state.loss_count:
        record_point(state, "train", "loss", state.loss_sum / state.loss_count, seconds)
        state.loss_sum, state.loss_count = 0.0, 0
    record_point(state, "validation", run.task.metric, value, seconds)
    consider(run, state, value, event)
    return value


def record_truncations(state: RunState, rows: Sequence[dict[str, Any]], **shared: Any) -> None:
    """One row per block, with what the blocks of an event share."""
    state.truncations.extend({"step": state.step, **row, **shared} for row in rows)


def record_point(state: RunState, split: str, metric: str, value: float, seconds: float) -> None:
    """One point of a curve."""
    state.curves.append(
        {"step": state.step, "split": split, "metric": metric, "value": value, "seconds": seconds}
    )


def record_spectra(
    run: Run, state: RunState, decomposed: list[Decomposition] | None = None
) -> None:
    """Hankel singular values and mode shares of every block, on their own clock; none of layers
    that give no system.

    `decomposed` is what a truncation at this step has found already, on its clock.
    """
    if Capability.SYSTEM not in run.spec.model.capabilities:
        return
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

"""What happens right after a step: truncations and evaluations, as arm and protocol ask.

Everything here is a function of the explicit state.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from harness.arms import Event
from harness.models.layers.capabilities import Capability
from harness.reduction import (
    BlockDecomposition,
    Order,
    Realness,
    UnusableSystem,
    decompositions,
    given_orders,
    shared,
    sharing,
    truncate,
)

from .calibration import is_selective, selective_of, weighted_of, weighted_options, within
from .context import TrialContext
from .costs.flops import all_spectra_flops, block_truncation_flops
from .costs.looking import calibration_flops, cut_flops, error_flops, selective_flops
from .evaluate import evaluate
from .host.faults import Diverged
from .rows import record_point, record_truncations, sizes_row, truncation_row
from .seeds import stream
from .selection import consider
from .state import Kept, RunState, install, snapshot


def boundary(context: TrialContext, state: RunState) -> None:
    """Truncate if an event is due and the ranks ask for it; else evaluate if that is due."""
    here = AtBoundary(context, state)
    decomposed = None
    if state.step in context.events and not state.stopped:
        decomposed = planned_event(here)
        if here.is_evaluated:
            return
    evaluates = state.step > 0 and state.step % context.spec.training.evaluate_every == 0
    evaluates = evaluates or state.step == context.steps
    if state.step == 0 or evaluates:
        record_spectra(context, state, decomposed)
    if evaluates:
        here.value = record_evaluation(context, state, measure(context, state))
        here.spectra_are_recorded = True
        context.arm.after_evaluation(here, here.value)


class AtBoundary:
    """A boundary as an arm's hooks see it: `harness.arms.Boundary`.

    value: the validation metric of the model as it arrived, once known. is_evaluated: the model has
    changed here, and the changed model was evaluated.
    """

    def __init__(self, context: TrialContext, state: RunState):
        self.context, self.state = context, state
        self.step, self.steps, self.sign = state.step, context.steps, context.sign
        self.memory = state.memory
        self.value: float | None = None
        self.is_evaluated = self.spectra_are_recorded = False

    @property
    def state_dims(self) -> list[int]:
        """The present states of each block."""
        return self.state.model.state_dims

    @property
    def kept(self) -> float | None:
        """The validation metric of the kept model."""
        return None if self.state.kept is None else self.state.kept.value

    def measure(self) -> float:
        """The validation metric of the present model, evaluated once."""
        if self.value is None:
            self.value = measure(self.context, self.state)
        return self.value

    def keep(self) -> None:
        """Keep model and optimizer as they are, and the selected model."""
        state = self.state
        state.kept = Kept(snapshot(state), self.state_dims, self.measure(), state.selected)

    def restore(self) -> None:
        """Bring back what was kept, evaluate and record it. Raises ValueError if nothing was."""
        value, self.value = self.measure(), None
        self.value = roll_back(self.context, self.state, value)
        self.is_evaluated = True

    def truncate(self) -> None:
        """Truncate to the arm's ranks."""
        steps = {row["step"] for row in self.state.truncations}
        cut(self, event_of(self.context, self.state, len(steps), 0))

    def end_events(self) -> None:
        """Cancel all further planned events."""
        self.state.stopped = True


def planned_event(here: AtBoundary) -> list[BlockDecomposition] | None:
    """An event of the arm; returns what the ranks were computed from if they change nothing."""
    context, state, arm = here.context, here.state, here.context.arm
    trained = state.step
    if arm.from_best:
        trained = take_best(context, state)
        assert state.selected is not None
        here.value, here.is_evaluated = state.selected.value, True
    decomposed = None
    if arm.before_event(here):
        index, of = context.events.index(state.step), len(context.events)
        decomposed = cut(here, event_of(context, state, index, of), trained)
    arm.after_event(here)
    return decomposed


def event_of(context: TrialContext, state: RunState, index: int, of: int) -> Event:
    """An event with a generator that depends on seed and step only."""
    seed = stream(context.spec.seed, "truncation", state.step)
    return Event(index, of, np.random.default_rng(seed))


def take_best(context: TrialContext, state: RunState) -> int:
    """Go back to the best model so far, the present one included; return its step."""
    record_evaluation(context, state, measure(context, state))
    assert state.selected is not None
    state.model.load_state_dict(state.selected.weights)
    return state.selected.step


def roll_back(context: TrialContext, state: RunState, value: float) -> float:
    """Bring the kept model back in place of one with validation metric `value`; return its own."""
    kept, before = state.kept, state.orders
    if kept is None:
        raise ValueError(f"the arm restores a model at step {state.step}, but none is kept")
    with context.clocks("truncate"):
        install(state, kept.tensors, kept.state_dims)
    state.kept = None
    record_spectra(context, state)
    event: float | None = value
    if context.protocol.selects == "best":  # the best of this size is a candidate again
        state.selected, event = kept.selected, None
    val_after = record_evaluation(context, state, validate(context, state), event)
    rows = [sizes_row(i, r, n) for i, (r, n) in enumerate(zip(before, state.orders, strict=True))]
    record_truncations(state, rows, val_before=value, val_after=val_after, seconds=0.0)
    return val_after


def cut(
    here: AtBoundary, event: Event, trained: int | None = None
) -> list[BlockDecomposition] | None:
    """Truncate to the arm's ranks, and evaluate. If they are the present sizes, leave the model
    alone and return what the ranks were computed from.

    `trained` is the number of steps that the model was trained for, the present step if None.
    """
    context, state = here.context, here.state
    begun = context.clocks.seconds["truncate"]
    decomposed, weighed, ranks = ask_for_ranks(context, state, event)
    changes = ranks != state.orders
    if not changes and not here.is_evaluated:
        return decomposed
    if not here.spectra_are_recorded:
        record_spectra(context, state, decomposed)
        here.spectra_are_recorded = True
    if not changes:
        return None
    val_before = here.measure()
    context.arm.before_truncation(here)
    here.value = truncation_event(context, state, event, ranks, weighed, begun, val_before)
    here.is_evaluated = True
    if state.selected is not None:
        state.selected.step = state.step if trained is None else trained
    return None


def ask_for_ranks(
    context: TrialContext, state: RunState, event: Event
) -> tuple[list[BlockDecomposition] | None, list[BlockDecomposition], list[Order]]:
    """The decompositions for the spectra, those that the arm weighs states by, and its ranks from
    these, on the truncation's clock.

    Spectra are those of the states as they are stored, whatever the arm: trials fork from common
    records. Where the arm takes others there are none for the spectra yet.
    """
    arm, weighed = context.arm, None
    with context.clocks("truncate"):
        decomposed = decompositions_of(context, state, arm.balances_as)
        if is_selective(context):
            state.truncation_flops += selective_flops(context, state, decomposed)
        if arm.weighting is not None:
            weighed = weighted_of(context, state, decomposed)
            state.truncation_flops += calibration_flops(context, state)
            state.truncation_flops += all_spectra_flops(weighed)
        systems = sharing(weighed or decomposed, arm.shares_orders)
        event = replace(event, within=within(context, state, systems))
        ranks = given_orders(state.orders, arm.ranks(systems, event))
        ranks = shared(ranks, state.orders, arm.shares_orders)
    state.truncation_flops += all_spectra_flops(decomposed)
    return (decomposed if arm.balances_as == "complex" else None), weighed or decomposed, ranks


def truncation_event(
    context: TrialContext,
    state: RunState,
    event: Event,
    ranks: list[Order],
    decomposed: list[BlockDecomposition],
    begun: float,
    val_before: float,
) -> float:
    """Truncate to the ranks, and record the metric before and after, and the spectra after.

    `begun` is the reading of its clock before this event.
    """
    model, arm, before = state.model, context.arm, state.orders
    state.truncation_flops += cut_flops(context, state, decomposed, ranks)
    with context.clocks("truncate"):
        done = truncate(
            model,
            state_dims=ranks,
            optimizer=state.optimizer,
            decomposed=decomposed,
            generator=event.generator,
            realness=arm.balances_as,
            scaling=arm.scales_states,
            **weighted_options(context, state),
            **arm.truncation_options,
        )
    seconds = context.clocks.seconds["truncate"] - begun
    record_spectra(context, state)
    val_after = record_evaluation(context, state, validate(context, state), event=val_before)
    changed = iter(done)
    rows: list[dict[str, Any]] = []
    for i, (n, asked, r) in enumerate(zip(before, ranks, state.orders, strict=True)):
        one = next(changed) if asked != n else None
        state.truncation_flops += block_truncation_flops(decomposed[i], one) if one else 0.0
        state.truncation_flops += error_flops(context, decomposed[i], one) if one else 0.0
        rows.append({**sizes_row(i, n, r), **truncation_row(arm, one)})
    record_truncations(
        state, rows, tau=arm.recorded_tau, val_before=val_before, val_after=val_after,
        seconds=seconds,
    )  # fmt: skip
    return val_after


def measure(context: TrialContext, state: RunState) -> float:
    """An evaluation as the protocol has it, on its clock: validation, and what else it passes."""
    begun = context.clocks.seconds["evaluate"]
    if context.protocol.trains_pass and state.step > 0:
        with context.clocks("evaluate"):
            value = evaluate(state.model, context.task, "train", context.device)
        record_point(state, "train", context.task.metric, value, context.clocks.total)
    value = validate(context, state)
    state.seconds_passes += context.clocks.seconds["evaluate"] - begun
    return value


def validate(context: TrialContext, state: RunState) -> float:
    """The validation metric of the present model.

    Raises:
        Diverged: it is not finite.
    """
    with context.clocks("evaluate"):
        value = evaluate(state.model, context.task, "validation", context.device)
    if not math.isfinite(value):
        raise Diverged(f"the validation {context.task.metric} is {value} at step {state.step}")
    return value


def record_evaluation(
    context: TrialContext, state: RunState, value: float, event: float | None = None
) -> float:
    """Record a validation, and keep the model if the protocol selects it.

    `event` is the value before the truncation that was just made, if any.
    """
    seconds = context.clocks.total
    if state.loss_count:
        record_point(state, "train", "loss", state.loss_sum / state.loss_count, seconds)
        state.loss_sum, state.loss_count = 0.0, 0
    record_point(state, "validation", context.task.metric, value, seconds)
    consider(context, state, value, event)
    return value


def record_spectra(
    context: TrialContext, state: RunState, decomposed: list[BlockDecomposition] | None = None
) -> None:
    """Record Hankel singular values and mode shares of every block, on their own clock; nothing for
    layers without a system.

    `decomposed` is what a truncation at this step has computed already, on its own clock.
    """
    if Capability.SYSTEM not in context.spec.model.capabilities:
        return
    with context.clocks("spectra"):
        rows: list[dict[str, Any]] = [
            {
                "step": state.step,
                "block": i,
                "hankel_singular_values": one.hsv.tolist(),
                "mode_shares": one.mode_shares.tolist(),
                **({"orders": list(one.order)} if isinstance(one.order, tuple) else {}),
            }
            for i, one in enumerate(decomposed or decompositions_of(context, state))
        ]
    state.spectra.extend(rows)


def decompositions_of(
    context: TrialContext, state: RunState, realness: Realness = "complex"
) -> list[BlockDecomposition]:
    """What the spectra and a truncation of the present model need.

    Raises:
        Diverged: the last step left a NaN, infinite or unstable system. When the loss shows it
            depends on when it is checked, but the training is over either way.
    """
    try:
        if is_selective(context):
            return selective_of(context, state)
        return decompositions(state.model, realness)
    except UnusableSystem as error:
        raise Diverged(f"the system is broken at step {state.step}: {error}") from error

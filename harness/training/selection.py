"""Which model a trial selects, by its protocol."""

from __future__ import annotations

from .context import TrialContext
from .state import RunState, Selected


def consider(context: TrialContext, state: RunState, value: float, event: float | None) -> None:
    """Keep the present model if the protocol selects it.

    value: its validation metric. event: that of the model before the truncation just made, None if
    there was none. `strict` forgets models of the previous size, whose weights are no longer
    candidates; the other protocols keep their test value although it is another model's.
    """
    if context.protocol.selects == "best":
        if event is not None:
            state.selected = None
        best = None if state.selected is None else state.selected.value
        if best is None or context.sign * value > context.sign * best:
            keep(state, value)
        return
    # Before training, or after it, there is no bar to inherit.
    own = state.step == 0 or context.spec.arm.from_best
    if event is not None:
        keep(state, value)
        raise_bar(
            context, state, value if own else event, anew=context.protocol.selects == "reset_record"
        )
    elif beats(context, state, value):
        keep(state, value)
        raise_bar(context, state, value)


def beats(context: TrialContext, state: RunState, value: float) -> bool:
    """Whether a value passes the bar; ties pass in the research code."""
    if state.bar is None:
        return True
    gain = context.sign * (value - state.bar)
    return gain >= 0 if context.protocol.selects == "last_record" else gain > 0


def raise_bar(context: TrialContext, state: RunState, value: float, anew: bool = False) -> None:
    """Raise the bar to the value if that is better; with `anew` set it to the value."""
    if anew or state.bar is None or context.sign * (value - state.bar) > 0:
        state.bar = value


def keep(state: RunState, value: float) -> None:
    """Select the present model."""
    weights = {k: v.detach().clone() for k, v in state.model.state_dict().items()}
    state.selected = Selected(state.step, value, weights, state.model.state_dims)

"""What cannot be asked of a truncation together: said before anything is measured."""

from __future__ import annotations

from typing import Any, get_args

from .pieces import BALANCING
from .ranks import MEASURED, OF_STATES
from .real import Realness
from .scaling import Scaling
from .weighting.choice import Weighting
from .weighting.refit import Refit

OF_SELECTIVE = ("balanced", "smallest", "random")  # what needs no system


def check_weighting(
    weighting: Weighting, how: str, calibration: Any, max_loss: float | None
) -> None:
    """Raise `ValueError` where gramians or a bound on the loss do not fit the method, or where
    calibration is missing."""
    if not weighting.is_white and how not in MEASURED:
        reason = ", which weighs nothing by a norm" if how in ("modal", "random") else ""
        raise ValueError(
            f"gramians other than white go with methods {', '.join(MEASURED)} and keep 'largest', "
            f"not {how!r}{reason}"
        )
    if max_loss is not None and how != "balanced":
        raise ValueError(f"max_loss goes with method 'balanced' and keep 'largest', not {how!r}")
    if weighting.uses_data and calibration is None:
        raise ValueError("these gramians are measured: give `calibration` batches")


def check_states(
    how: str,
    weighting: Weighting,
    fit: Refit,
    realness: Realness,
    scaling: Scaling,
    calibration: Any,
    are_given: bool,
) -> None:
    """Raise `ValueError` for what cannot be done to selective layers, which have no system."""
    if how not in OF_SELECTIVE:
        raise ValueError(
            f"method {how!r} needs a system, and selective layers have none: their states go by "
            "method 'balanced', that is by their Hankel shares, or at 'random'"
        )
    if not weighting.is_white:
        raise ValueError("gramians other than white need a system, and selective layers have none")
    if fit.is_asked:
        raise ValueError("a refit needs a system, and selective layers have none")
    if realness != "complex":
        raise ValueError("realness 'real' needs a system, and selective layers have none")
    if scaling != "gramians":
        raise ValueError("scaling 'equal' needs a system, and selective layers have none")
    if calibration is None and not are_given:
        raise ValueError(
            "what stands in for a selective layer's system is measured: give `calibration` batches"
        )


def check_realness(realness: str, method: str) -> None:
    """Raise `ValueError` for a realness that does not exist, or where it makes no difference."""
    if realness not in get_args(Realness):
        listed = ", ".join(get_args(Realness))
        raise ValueError(f"realness must be one of {listed}, not {realness!r}")
    if realness == "real" and method not in OF_STATES:
        raise ValueError(
            f"realness 'real' goes with methods {', '.join(OF_STATES)}, not {method!r}: a mode is "
            "worth the same with its conjugate"
        )


def check_scaling(scaling: str, how: str) -> None:
    """Raise `ValueError` for a scaling that does not exist, or for modes, which keep theirs."""
    if scaling not in get_args(Scaling):
        listed = ", ".join(get_args(Scaling))
        raise ValueError(f"scaling must be one of {listed}, not {scaling!r}")
    if scaling != "gramians" and how not in BALANCING:
        raise ValueError(
            f"scaling {scaling!r} goes with balanced states, not with {how!r}: modes stay as they "
            "are"
        )


def check_gains(changing: dict[int, Any], what: str) -> None:
    """Raise `ValueError` for blocks whose layer takes no static gain."""
    for i, layer in changing.items():
        if not hasattr(layer, "add_gain"):
            raise ValueError(
                f"block {i}: {what} needs a static gain, and {type(layer).__name__} has no add_gain"
            )

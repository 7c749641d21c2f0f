"""What a layer is balanced against: the choice of Gramians, and what goes with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

Gramians = Literal["white", "horizon", "input", "signal", "task"]
Controllability = Literal["white", "horizon", "input", "signal"]
Observability = Literal["white", "horizon", "task"]
Target = Literal["loss", "label", "logits", "fisher"]
Stability = Literal["one_sided", "stabilised", "projected"]

Sweep = Literal["together", "in_order"]

PROJECTIONS = 2  # random ones of the logits, a backward pass each

SIDES: dict[str, tuple[Controllability, Observability]] = {
    "white": ("white", "white"),
    "horizon": ("horizon", "horizon"),
    "input": ("input", "white"),
    "signal": ("signal", "white"),
    "task": ("signal", "task"),
}


@dataclass(frozen=True)
class Weighting:
    """How a truncation weighs states; see harness/reduction/weighting/README.md.

    controllability: states reached by `white` noise for all time, by white noise over the `horizon`
    of the sequence length, by noise that is white in time with the covariance of the layer's
    `input`, or by the `signal` of the calibration sequences.
    observability: states as they show in all outputs for all time (`white`) or to the `horizon`, or
    as the `task` looks at them, by gradients of `target`.
    target: the `loss`; the true `label`'s logit; random projections of all `logits`; or the loss at
    labels drawn from the model's own distribution (`fisher`, the Gauss-Newton matrix).
    normalise: every example counts alike, whatever the size of its gradient.
    stability: what takes the place of a projection that is unstable: the same controllability with
    white observability (`one_sided`); weightings made stable after Wang, Sreeram and Liu; or the
    projection itself with its unstable poles moved to the nearest stable ones (`projected`).
    sweep: all blocks measured `together` on the model as it is, or `in_order`, each on what the
    blocks before it give once they are truncated.
    """

    controllability: Controllability = "white"
    observability: Observability = "white"
    target: Target = "loss"
    normalise: bool = False
    stability: Stability = "one_sided"
    sweep: Sweep = "together"

    @property
    def is_white(self) -> bool:
        """Whether both Gramians are the published ones."""
        return self.controllability == self.observability == "white"

    @property
    def uses_data(self) -> bool:
        """Whether it needs calibration sequences."""
        return self.hears or self.observability == "task"

    @property
    def hears(self) -> bool:
        """Whether controllability is measured, on what enters a layer."""
        return self.controllability in ("input", "signal")

    @property
    def passes(self) -> int:
        """Backward passes for each calibration batch."""
        if self.observability != "task":
            return 0
        return PROJECTIONS if self.target == "logits" else 1

    @property
    def uses_horizon(self) -> bool:
        """Whether it needs the length of the sequences."""
        return "horizon" in (self.controllability, self.observability)


FIELDS = {
    "controllability": Controllability,
    "observability": Observability,
    "target": Target,
    "stability": Stability,
    "sweep": Sweep,
}


def weighting_of(
    gramians: str | Weighting = "white",
    controllability: str | None = None,
    observability: str | None = None,
    **more: Any,
) -> Weighting:
    """The weighting of a name, or of its sides where they are named.

    Raises:
        ValueError: a name that does not exist; blocks in order though no data are measured.
    """
    if isinstance(gramians, Weighting):
        found = gramians
    else:
        if gramians not in SIDES:
            listed = ", ".join(SIDES)
            raise ValueError(f"gramians must be one of {listed}, not {gramians!r}")
        found = Weighting(*SIDES[gramians])
    sides = {"controllability": controllability, "observability": observability}
    given = {**{name: side for name, side in sides.items() if side is not None}, **more}
    found = replace(found, **given)
    for name, allowed in FIELDS.items():
        value = getattr(found, name)
        if value not in get_args(allowed):
            listed = ", ".join(get_args(allowed))
            raise ValueError(f"{name} must be one of {listed}, not {value!r}")
    if found.sweep == "in_order" and not found.uses_data:
        raise ValueError(
            "sweep 'in_order' needs gramians that are measured, input, signal or task: "
            f"{found.controllability}/{found.observability} is the same whatever a block hears"
        )
    return found

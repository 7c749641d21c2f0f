"""Arms that truncate, and by which Gramians."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from harness.models.layers.capabilities import Capability

from .base import Arm
from .given import Trial

if TYPE_CHECKING:
    from harness.reduction import Refit, Weighting

MOST_EXAMPLES = 1_000_000
MEASURED = ("balanced", "last", "aire")  # as in harness.reduction.ranks, which imports torch
HELD_OUT = 4  # one held-out example for so many calibration examples, and at least one


class WeightedArm(Arm):
    """`gramians`: what states are weighed by: `white` noise for all time, as published; white noise
    over the `horizon` of the task's length; the `signal` that training sequences are; or that and
    how the `task`'s loss looks at the outputs. `controllability` and `observability` choose one
    side. `calibration` is the number of training examples to measure on, drawn by the seed; a
    quarter as many more are held out for the error. `sweep`: blocks are measured all `together`, or
    `in_order`, each on what the truncated ones before it give. `refit` fits C, B and C in turn, or
    a static gain to what the full layer gives on them, whatever the gramians; `refit_weight` weighs
    steps by the `task`. See harness/reduction/weighting/README.md for `target`, `normalise` and
    `stability`.
    """

    unsaid: ClassVar[frozenset[str]] = frozenset(
        {
            "gramians",
            "controllability",
            "observability",
            "calibration",
            "target",
            "normalise",
            "stability",
            "sweep",
            "refit",
            "refit_weight",
        }
    )

    gramians: Literal["white", "horizon", "signal", "task"] = "white"
    controllability: Literal["white", "horizon", "signal"] | None = None
    observability: Literal["white", "horizon", "task"] | None = None
    calibration: Annotated[int, Field(ge=1, le=MOST_EXAMPLES)] = 256
    target: Literal["loss", "label", "logits", "fisher"] = "loss"
    normalise: bool = False
    stability: Literal["one_sided", "stabilised", "projected"] = "one_sided"
    sweep: Literal["together", "in_order"] = "together"
    refit: Literal["none", "gain", "C", "C+gain", "BC", "BC+gain"] = "none"
    refit_weight: Literal["uniform", "task"] = "uniform"

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        fields = cls.__pydantic_fields__  # those that make the arm come first where it lists them
        for name in WeightedArm.__pydantic_fields__:
            if name in WeightedArm.unsaid:
                fields[name] = fields.pop(name)

    @property
    def is_weighted(self) -> bool:
        """Whether a Gramian is not the published one."""
        sides = self.controllability, self.observability
        return self.gramians != "white" or any(side not in (None, "white") for side in sides)

    @property
    def weighting(self) -> Weighting | None:
        if not self.is_weighted:
            return None
        found = self._asked()
        return None if found.is_white else found

    def _asked(self) -> Weighting:
        from harness.reduction import weighting_of

        return weighting_of(
            self.gramians,
            self.controllability,
            self.observability,
            target=self.target,
            normalise=self.normalise,
            stability=self.stability,
            sweep=self.sweep,
        )

    @model_validator(mode="after")
    def _sweep_has_data(self) -> WeightedArm:
        if self.sweep == "in_order":
            self._asked()  # refuses it where nothing is measured
        return self

    @property
    def refitting(self) -> Refit | None:
        if self.refit == "none":
            return None
        from harness.reduction import Refit

        return Refit(self.refit, self.refit_weight, self.target, self.normalise)

    @property
    def gain_needs(self) -> tuple[Capability, ...]:
        """What a refit needs of the layers beyond their system."""
        return (Capability.GAIN,) if self.refit.endswith("gain") else ()

    @model_validator(mode="after")
    def _weighs_a_refit(self) -> WeightedArm:
        if self.refit_weight != "uniform" and self.refit == "none":
            raise ValueError("`refit_weight` weighs a refit: say what to `refit`")
        return self

    @property
    def calibration_size(self) -> int:
        return self.calibration if self.is_weighted or self.refit != "none" else 0

    @property
    def held_out_size(self) -> int:
        return max(1, self.calibration_size // HELD_OUT) if self.calibration_size else 0

    def check(self, trial: Trial) -> None:
        super().check(trial)
        check_examples(self, trial.task.train_size, trial.task.name)

    def check_method(self, method: str) -> None:
        """Raise `ValueError` for weighted Gramians of a method that has none."""
        if self.is_weighted and method not in MEASURED:
            reason = ", which weighs nothing by a norm" if method in ("modal", "random") else ""
            raise ValueError(
                f"gramians other than white go with methods {', '.join(MEASURED)}, not with "
                f"{method}{reason}"
            )


def check_examples(arm: Arm, size: int | None, task: str) -> None:
    """Refuse calibration on more examples, held-out ones included, than the training split has.

    Raises:
        ValueError: as said; never for a `size` of None, which only the data can tell.
    """
    needed = arm.calibration_size + arm.held_out_size
    if size is not None and needed > size:
        raise ValueError(
            f"arm.calibration {arm.calibration_size} needs {needed} training examples, "
            f"held-out ones included, more than the training split of {task}, {size}"
        )

"""Arms that truncate, and by which Gramians."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from harness.models.layers.capabilities import Capability
from harness.models.selective import Selective, check_basis

from .base import Arm
from .given import Trial

if TYPE_CHECKING:
    from harness.reduction import Refit, Weighting

MOST_EXAMPLES = 1_000_000
OF_MODES = ("last", "aire", "modal", "random")
MEASURED = ("balanced", "last", "aire")  # as in harness.reduction.ranks, which imports torch
HELD_OUT = 4  # one held-out example for so many calibration examples, and at least one


class WeightedArm(Arm):
    """`gramians`: what states are weighed by: `white` noise for all time, as published; white noise
    over the `horizon` of the task's length; noise with the covariance of what enters the block
    (`input`); the `signal` that training sequences are; or that and
    how the `task`'s loss looks at the outputs. `controllability` and `observability` choose one
    side. `calibration` is the number of training examples to measure on, drawn by the seed; a
    quarter as many more are held out for the error. `sweep`: blocks are measured all `together`, or
    `in_order`, each on what the truncated ones before it give. `refit` fits C, B and C in turn, or
    a static gain to what the full layer gives on them, whatever the gramians; `refit_weight` weighs
    steps by the `task`. `orders`: of a layer with a system for every channel each keeps its own
    rank, `ragged`, as the literature counts; or all the same, which storage and kernels profit
    from: the `largest` of these, or the `common` one at which all channels together lose the
    energy asked for. See harness/reduction/weighting/README.md for `target`, `normalise` and
    `stability`.

    `realness`: whether a layer with complex states, such as LRU, is balanced as the `complex`
    system that they make by themselves, as published, or with their conjugates, as the `real` one
    from real inputs to real outputs; ranks by `tau` are then fractions of the real one's energy.

    `scaling`: how large the balanced states are in the parameters, which training can tell though
    outputs cannot: as the `gramians` have them, as published, or with B and C of `equal` norm. See
    harness/reduction/README.md.

    `selective`: what stands in for the system that a selective layer has not, measured on
    `calibration` examples whatever the gramians: see harness/reduction/selective/README.md. Only
    states ranked by it, or at random, can then be removed.
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
            "orders",
            "selective",
            "realness",
            "scaling",
        }
    )

    gramians: Literal["white", "horizon", "input", "signal", "task"] = "white"
    controllability: Literal["white", "horizon", "input", "signal"] | None = None
    observability: Literal["white", "horizon", "task"] | None = None
    calibration: Annotated[int, Field(ge=1, le=MOST_EXAMPLES)] = 256
    target: Literal["loss", "label", "logits", "fisher"] = "loss"
    normalise: bool = False
    stability: Literal["one_sided", "stabilised", "projected"] = "one_sided"
    sweep: Literal["together", "in_order"] = "together"
    refit: Literal["none", "gain", "C", "C+gain", "BC", "BC+gain"] = "none"
    refit_weight: Literal["uniform", "task"] = "uniform"
    orders: Literal["ragged", "common", "largest"] = "ragged"
    selective: Selective = "mean_modes"
    realness: Literal["complex", "real"] = "complex"
    scaling: Literal["gramians", "equal"] = "gramians"

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
    def shares_orders(self) -> Literal["ragged", "common", "largest"]:
        return self.orders

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
    def needs_system_for(self) -> str | None:
        if self.is_weighted:
            return "with gramians other than white"
        if self.realness != "complex":
            return f"with realness {self.realness}"
        if self.scaling != "gramians":
            return f"with scaling {self.scaling}"
        return f"with refit {self.refit}" if self.refit != "none" else None

    @property
    def balances_as(self) -> Literal["complex", "real"]:
        return self.realness

    @property
    def scales_states(self) -> Literal["gramians", "equal"]:
        return self.scaling

    @property
    def stand_in(self) -> Selective:
        return self.selective

    def examples(self, model: Any) -> tuple[int, int]:
        """As many as `calibration` says where the layers are selective, whatever the gramians."""
        if Capability.SURROGATE in model.capabilities:
            return self.calibration, max(1, self.calibration // HELD_OUT)
        return super().examples(model)

    @property
    def calibration_size(self) -> int:
        return self.calibration if self.is_weighted or self.refit != "none" else 0

    @property
    def held_out_size(self) -> int:
        return max(1, self.calibration_size // HELD_OUT) if self.calibration_size else 0

    def check(self, trial: Trial) -> None:
        super().check(trial)
        if self.selective != "mean_modes" and Capability.SURROGATE not in trial.model.capabilities:
            raise ValueError(
                f"arm.selective {self.selective} is for selective layers; {trial.model.kind} has "
                "systems of its own"
            )
        if Capability.SURROGATE in trial.model.capabilities:
            basis = getattr(trial.model, "basis", "own")
            check_basis(self.selective, basis, getattr(trial.model, "has_heads", False))
        if self.realness == "real" and trial.model.conjugates:
            raise ValueError(
                f"arm.realness real is for states without conjugates; {trial.model.kind} as it is "
                "here is balanced as a real system anyway"
            )
        if self.calibration_size and not trial.model.causal:
            raise ValueError(
                f"{self.named} that looks at data needs a causal model; "
                f"{trial.model.kind} is bidirectional"
            )
        check_examples(self, trial.model, trial.task.train_size, trial.task.name)

    def check_method(self, method: str) -> None:
        """Raise `ValueError` for weighted Gramians of a method that has none, for `realness` where
        it makes no difference, and for `scaling` of modes, which stay as they are."""
        if self.realness == "real" and method in OF_MODES:
            raise ValueError(
                f"realness real goes with balanced states, not with method {method}: a mode is "
                "worth the same with its conjugate"
            )
        if self.scaling != "gramians" and method in (*OF_MODES, "keep random"):
            raise ValueError(
                f"scaling {self.scaling} goes with balanced states, not with {method}: modes stay "
                "as they are"
            )
        if self.is_weighted and method not in MEASURED:
            reason = ", which weighs nothing by a norm" if method in ("modal", "random") else ""
            raise ValueError(
                f"gramians other than white go with methods {', '.join(MEASURED)}, not with "
                f"{method}{reason}"
            )


def check_examples(arm: Arm, model: Any, size: int | None, task: str) -> None:
    """Refuse calibration on more examples, held-out ones included, than the training split has.

    Raises:
        ValueError: as said; never for a `size` of None, which only the data can tell.
    """
    calibration, held_out = arm.examples(model)
    needed = calibration + held_out
    if size is not None and needed > size:
        raise ValueError(
            f"arm.calibration {calibration} needs {needed} training examples, "
            f"held-out ones included, more than the training split of {task}, {size}"
        )

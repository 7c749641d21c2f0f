"""Train, then compress: a reduction of the full trial's selected model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from harness.models.layers.capabilities import Capability
from harness.spec import MOST_STATES, MOST_STEPS

from .base import Style
from .given import Event, Trial
from .sized import SizedArm
from .weighted import WeightedArm


class PostHocSpec(WeightedArm, SizedArm):
    """By `tau`, by a budget `mean_dim` of states per block, at given `state_dims`, at the sizes
    another arm ended with, or at the smallest whose loss on held-out training examples is at most
    `max_loss` above the full model's, in the loss's units.

    `method`: balanced truncation; balanced `singular_perturbation`; modes kept by the scores of
    LAST (arXiv 2411.02824) or AIRE-Prune, by decay (`modal`), or at `random`.
    `scope="global"` lets `tau` or `mean_dim` weigh states across blocks, as each method's authors
    do (see harness/reduction/README.md).

    `finetune_steps` optimizer steps follow, or `finetune_share` of the training's, at
    `finetune_lr_factor` times the learning rate and by the same schedule; their cost counts.
    """

    title: ClassVar[str] = "train, then compress"
    table_place: ClassVar[int] = 20
    style: ClassVar[Style | None] = Style("#E69F00", "^")
    needs_full: ClassVar[bool] = True
    from_full: ClassVar[bool] = True

    unsaid: ClassVar[frozenset[str]] = WeightedArm.unsaid | {"max_loss"}
    sizing: ClassVar[frozenset[str]] = SizedArm.sizing | {"tau", "mean_dim", "max_loss"}

    kind: Literal["post_hoc"] = "post_hoc"
    tau: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    mean_dim: Annotated[float, Field(ge=1.0, le=MOST_STATES)] | None = None
    max_loss: Annotated[float, Field(ge=0.0)] | None = None
    method: Literal["balanced", "singular_perturbation", "last", "aire", "modal", "random"] = (
        "balanced"
    )
    scope: Literal["layer", "global"] = "layer"
    finetune_steps: Annotated[int, Field(ge=0, le=MOST_STEPS)] = 0
    finetune_share: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    finetune_lr_factor: Annotated[float, Field(gt=0.0)] = 0.1

    @model_validator(mode="after")
    def _scope_has_a_choice(self) -> PostHocSpec:
        if self.scope == "global" and self.tau is None and self.mean_dim is None:
            raise ValueError("scope global shares out `tau` or `mean_dim`; sizes are given here")
        if self.tau is not None and self.method in ("modal", "random"):
            raise ValueError(f"method {self.method} has no energy for `tau` to discard")
        if self.finetune_share is not None and self.finetune_steps:
            raise ValueError("give either `finetune_steps` or `finetune_share`")
        if self.max_loss is not None and self.method != "balanced":
            raise ValueError(f"`max_loss` goes with balanced truncation, not method {self.method}")
        self.check_method(self.method)
        return self

    def _sources(self) -> dict[str, object]:
        own = {"tau": self.tau, "mean_dim": self.mean_dim}
        bound = {"max_loss": self.max_loss} if self.max_loss is not None else {}
        return {**own, **bound, **super()._sources()}

    @property
    def calibration_size(self) -> int:
        return self.calibration if self.max_loss is not None else super().calibration_size

    @property
    def needs(self) -> tuple[Capability, ...]:
        gain = self.method == "singular_perturbation" or self.gain_needs
        return (Capability.SYSTEM, *([Capability.GAIN] if gain else []))

    @property
    def needs_system_for(self) -> str | None:
        if self.method not in ("balanced", "random"):
            return f"with method {self.method}"
        return super().needs_system_for

    def check(self, trial: Trial) -> None:
        super().check(trial)
        size = sum(trial.model.state_dims) / trial.model.blocks
        if self.mean_dim is not None and self.mean_dim > size:
            raise ValueError(
                f"arm.mean_dim {self.mean_dim:g} is larger than the model, {size:g} states a block"
            )

    def trained_dims(self, model: Any) -> list[int] | None:
        return self.given_dims(model) or self.initial_dims(model)

    def train_steps(self, steps: int) -> int:
        if self.finetune_share is not None:
            return max(1, round(self.finetune_share * steps))
        return self.finetune_steps

    @property
    def lr_factor(self) -> float:
        return self.finetune_lr_factor

    def events(self, steps: int) -> tuple[int, ...]:
        return (0,)

    def ranks(self, systems: Sequence[Any], event: Event) -> list[Any]:
        from harness.reduction import ranks

        if self.max_loss is not None:
            assert event.within is not None
            return event.within(self.max_loss)
        sizes: dict[str, Any] = {"tau": self.tau, "mean_dim": self.mean_dim}
        if self.tau is None and self.mean_dim is None:
            sizes = {"state_dims": self.dims(len(systems))}
        return ranks(
            systems, method=self.method, scope=self.scope, generator=event.generator, **sizes
        )

    @property
    def truncation_options(self) -> dict[str, Any]:
        return {"moments": "reset", "method": self.method}

    @property
    def recorded_tau(self) -> float | None:
        return self.tau

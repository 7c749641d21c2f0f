"""Train, then compress: balanced truncation of the full trial's selected model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from .base import Arm, StateDims
from .in_training import InTrainingSpec


class PostHocSpec(Arm):
    """By `tau`, at given `state_dims`, or at the sizes an in-training arm ended with.

    `finetune_steps` optimizer steps follow, at `finetune_lr_factor` times the learning rate and
    by the same schedule; their cost counts.
    """

    needs_full: ClassVar[bool] = True

    kind: Literal["post_hoc"]
    tau: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    state_dims: StateDims | None = None
    match: Literal["seed", "mean"] | None = None
    to: InTrainingSpec | None = None
    finetune_steps: Annotated[int, Field(ge=0)] = 0
    finetune_lr_factor: Annotated[float, Field(gt=0.0)] = 0.1

    @model_validator(mode="after")
    def _one_source_of_sizes(self) -> PostHocSpec:
        if (self.match is None) != (self.to is None):
            raise ValueError("`match` and `to` (an in_training arm) go together")
        if sum(source is not None for source in (self.tau, self.state_dims, self.match)) != 1:
            raise ValueError("give exactly one of `tau`, `state_dims`, or `match` with `to`")
        return self

    def events(self, steps: int) -> tuple[int, ...]:
        return (0,)

    def ranks(self, spectra: Sequence[Any]) -> list[int]:
        from harness.reduction import energy_rank

        sizes = [len(hsv) for hsv in spectra]
        if self.tau is not None:
            return [energy_rank(hsv, self.tau) for hsv in spectra]
        if self.state_dims is None:
            raise ValueError("a post_hoc arm that matches needs the plan to resolve its sizes")
        dims = self.state_dims * len(sizes) if len(self.state_dims) == 1 else self.state_dims
        for i, (r, n) in enumerate(zip(dims, sizes, strict=True)):
            if r > n:
                raise ValueError(f"block {i}: `state_dims` asks for {r} of its {n} states")
        return list(dims)

    def train_steps(self, steps: int) -> int:
        return self.finetune_steps

"""The spec of S4D."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ..layers.capabilities import Capability
from .base import BackboneSpec
from .s5 import Step


class S4DSpec(BackboneSpec):
    """S4D (Gu, Gupta, Goel and Ré 2022, arXiv 2206.11893): one system a channel, of `state_dim`
    complex states as they are *stored*. Each stands for itself and its conjugate, so that the
    authors' N is twice the `state_dim`.

    `n_ssm` systems of A and B are shared by the channels (the authors' configurations have 1, and
    one a channel on Pathfinder); `channels` is one for each. C and the time step are every
    channel's own, and after a truncation all is. `init`, with a version: `legs_1`, `lin_1` and
    `inv_1` are the authors'; `dfout_1`, discrete poles evenly on the circle, follows one sentence
    about S4D-DFouT, not its formulas, and needs n_ssm `channels`. `backend`: see
    `harness.models.scans.channels`.

    `block`: the `backbone`'s, as around all layers, or the `authors`' pre-norm one, with a batch
    norm that has weights and one more after the last block; theirs also ties dropout over time
    (`dropout_mask`). `norm` and `mixer` then have no part, and are refused.
    """

    implementation: ClassVar[str] = "harness.models.layers.s4d:S4D"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.SYSTEM, Capability.GRADIENT, Capability.MOMENTS, Capability.MODES}
    )

    unsaid: ClassVar[frozenset[str]] = frozenset({"block"})

    kind: Literal["s4d"] = "s4d"
    n_ssm: Annotated[int, Field(ge=1, le=65_536)] | Literal["channels"] = 1
    init: Literal["legs_1", "lin_1", "inv_1", "dfout_1"] = "legs_1"
    discretisation: Literal["zoh", "bilinear"] = "zoh"
    dt_min: Step = 0.001
    dt_max: Step = 0.1
    block: Literal["backbone", "authors"] = "backbone"
    backend: Literal["auto", "reference", "fft", "blocks"] = "auto"

    @model_validator(mode="after")
    def _steps_have_a_range(self) -> S4DSpec:
        if self.dt_max < self.dt_min:
            raise ValueError(f"dt_max {self.dt_max} must not be below dt_min {self.dt_min}")
        return self

    @model_validator(mode="after")
    def _systems_are_shared_out(self) -> S4DSpec:
        if self.width % self.systems:
            raise ValueError(f"width {self.width} is not divisible by n_ssm {self.n_ssm}")
        if self.init == "dfout_1" and self.systems != self.width:
            raise ValueError(
                "init dfout_1 needs n_ssm 'channels': its phases are those of one step"
            )
        return self

    @model_validator(mode="after")
    def _surroundings_are_used(self) -> S4DSpec:
        if self.block == "authors":
            self.refuse_surroundings()
        return self

    @property
    def surroundings(self) -> tuple[str, str]:
        return super().surroundings if self.block == "backbone" else ("batch_affine", "glu")

    @property
    def ends_with_norm(self) -> bool:
        return self.block == "authors"

    @property
    def systems(self) -> int:
        """How many systems of A and B a new layer has."""
        return self.width if self.n_ssm == "channels" else self.n_ssm

    @property
    def conjugates(self) -> bool:
        return True

    def layer_flops(self, state_dim: int) -> int:
        """Per state 8 for the recurrence, 2 for B, which is complex, and 4 for C."""
        return 14 * state_dim * self.width

    def layer_parameters(self, state_dim: int) -> int:
        """A and B of the systems, C, steps and D; of a layer that no truncation has changed."""
        return 4 * state_dim * self.systems + 2 * (state_dim + 1) * self.width

"""What the specs of Mamba and Mamba-2 share."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import model_validator

from ..layers.capabilities import Capability
from .base import BackboneSpec


class SelectiveSpec(BackboneSpec):
    """Selective layers, with a gate and a convolution of their own. A subclass has these fields;
    `block` says what surrounds the layer: `authors`, x + layer(RMSNorm(x)), with one more RMSNorm
    after the last, where `norm` and `mixer` have no part and are refused; or the `backbone`'s, as
    around all other layers.
    """

    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.SURROGATE, Capability.MOMENTS, Capability.MODES}
    )

    if TYPE_CHECKING:  # each spec's own
        expand: int
        dt_min: float
        dt_max: float
        block: Literal["authors", "backbone"]

    @model_validator(mode="after")
    def _steps_have_a_range(self) -> Self:
        if self.dt_max < self.dt_min:
            raise ValueError(f"dt_max {self.dt_max} must not be below dt_min {self.dt_min}")
        return self

    @model_validator(mode="after")
    def _surroundings_are_used(self) -> Self:
        if self.block == "authors":
            self.refuse_surroundings()
        return self

    @property
    def channels(self) -> int:
        """D, the authors' d_inner."""
        return self.expand * self.width

    @property
    def surroundings(self) -> tuple[str, str]:
        return ("rms", "none") if self.block == "authors" else (self.norm, self.mixer)

"""The spec of Linear Recurrent Units."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ..layers.capabilities import Capability
from .base import Backend, Remember, ScanSpec


class LRUSpec(ScanSpec):
    """Linear Recurrent Units of N = `state_dim` complex states (Orvieto et al. 2023), their
    eigenvalues drawn from the ring between `r_min` and `r_max`."""

    implementation: ClassVar[str] = "harness.models.layers.lru:LRU"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.SYSTEM,
            Capability.GRADIENT,
            Capability.MOMENTS,
            Capability.GAIN,
            Capability.MODES,
        }
    )

    kind: Literal["lru"] = "lru"
    r_min: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    r_max: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.999
    backend: Backend = "auto"
    remember: Remember = "auto"

    @model_validator(mode="after")
    def _the_ring_has_an_inside(self) -> LRUSpec:
        if self.r_max <= self.r_min:
            raise ValueError(f"r_max {self.r_max} must be above r_min {self.r_min}")
        return self

    def layer_flops(self, state_dim: int) -> int:
        """8 N H for B and C, which are complex, and 8 N for the recurrence."""
        return 8 * state_dim * self.width + 8 * state_dim

    def layer_parameters(self, state_dim: int) -> int:
        """nu, theta and gamma; B and C, which are complex; D."""
        return 3 * state_dim + 4 * state_dim * self.width + self.width

"""What the specs of Mamba and Mamba-2 share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import model_validator

from ..layers.capabilities import Capability
from .base import BackboneSpec


class SelectiveSpec(BackboneSpec):
    """Selective layers, with a gate and a convolution of their own. A subclass has these fields;
    `block` says what surrounds the layer: `authors`, x + layer(RMSNorm(x)), with one more RMSNorm
    after the last, where `norm` and `mixer` have no part and are refused; or the `backbone`'s, as
    around all other layers.

    `basis` says what a truncation does: it removes states as they are, `own`, so that the layer is
    a smaller one of its kind; or it changes their basis, `free`, and the layer reads and gives its
    r states through maps from the `state_dim` features that it goes on projecting to. Their cost
    is in the FLOPs. A new layer is the same in both.
    """

    unsaid: ClassVar[frozenset[str]] = frozenset({"basis"})

    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.SURROGATE, Capability.MOMENTS, Capability.MODES}
    )

    has_heads: ClassVar[bool] = False  # whether A is a number for each head

    if TYPE_CHECKING:  # each spec's own
        expand: int
        dt_min: float
        dt_max: float
        block: Literal["authors", "backbone"]
        basis: Literal["own", "free"]

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

    @model_validator(mode="after")
    def _features_are_one_number(self) -> Self:
        if self.basis == "free" and not isinstance(self.state_dim, int):
            raise ValueError("basis free needs one state_dim for all blocks, not a list")
        return self

    def features(self, state_dim: int) -> int:
        """M, the rows of the projections to B and C, of a layer of so many states."""
        return self.state_dim if self.basis == "free" else state_dim  # type: ignore[return-value]

    def at_dims(self, dims: Sequence[int]) -> dict[str, Any]:
        """A new model of these sizes is the same in either basis: it is in its own."""
        return {"basis": "own"} if self.basis == "free" else {}

    @property
    def channels(self) -> int:
        """D, the authors' d_inner."""
        return self.expand * self.width

    @property
    def surroundings(self) -> tuple[str, str]:
        return ("rms", "none") if self.block == "authors" else (self.norm, self.mixer)

"""The spec of S5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from ..layers.capabilities import Capability
from .base import Backend, Remember, ScanSpec

Step = Annotated[float, Field(gt=0.0, le=100.0)]


class S5Spec(ScanSpec):
    """S5 (Smith, Warrington and Linderman 2023, arXiv 2208.04933): one system of many inputs and
    outputs, `state_dim` complex states as they are *stored*.

    With `conj_sym` each stored state stands for itself and its conjugate, so that the authors' P is
    twice the `state_dim`; without it P is the `state_dim`. `hippo_blocks` is their J: that many
    blocks of HiPPO-LegS along the diagonal at initialisation; of a model at other sizes, as of arm
    `small`, the largest number up to it that divides them all. `bidirectional`: a second C reads
    the same system run backwards in time; there is then no recurrent mode, and nothing to predict
    the next token with. `discretisation`, `c_init` (of C), `dt_min` and `dt_max` (the range of the
    time steps, one a state) are theirs, and so is `clip_eigs`, which keeps the real parts of the
    eigenvalues at -1e-4 or below. It is on here, where they have it on for CIFAR alone: without it
    training can leave the stable region, and then a truncation is refused. `dt_global` trains the
    steps like the other parameters, at the full rate and with weight decay.

    `block`: the `backbone`'s, as around all layers, or the `authors`', with a batch norm that has
    weights and their `activation`; theirs also ties dropout over time (`dropout_mask`). `norm` and
    `mixer` then have no part, and are refused.
    """

    implementation: ClassVar[str] = "harness.models.layers.s5:S5"
    unsaid: ClassVar[frozenset[str]] = frozenset({"block", "activation"})

    kind: Literal["s5"] = "s5"
    conj_sym: bool = True
    bidirectional: bool = False
    hippo_blocks: Annotated[int, Field(ge=1, le=65_536)] = 1
    discretisation: Literal["zoh", "bilinear"] = "zoh"
    c_init: Literal["trunc_standard_normal", "lecun_normal", "complex_normal"] = (
        "trunc_standard_normal"
    )
    dt_min: Step = 0.001
    dt_max: Step = 0.1
    clip_eigs: bool = True
    dt_global: bool = False
    block: Literal["backbone", "authors"] = "backbone"
    activation: Literal["half_glu1", "half_glu2", "full_glu"] = "half_glu1"
    backend: Backend = "auto"
    remember: Remember = "auto"

    @model_validator(mode="after")
    def _steps_have_a_range(self) -> S5Spec:
        if self.dt_max < self.dt_min:
            raise ValueError(f"dt_max {self.dt_max} must not be below dt_min {self.dt_min}")
        return self

    @model_validator(mode="after")
    def _blocks_fit(self) -> S5Spec:
        for n in self.state_dims:
            if n % self.hippo_blocks:
                raise ValueError(
                    f"state_dim {n} is not divisible by hippo_blocks {self.hippo_blocks}"
                )
        return self

    @model_validator(mode="after")
    def _surroundings_are_used(self) -> S5Spec:
        if self.block == "authors":
            self.refuse_surroundings()
        elif self.activation != "half_glu1":
            raise ValueError(f"activation {self.activation} belongs to block authors")
        return self

    @property
    def surroundings(self) -> tuple[str, str]:
        if self.block == "backbone":
            return super().surroundings
        return "batch_affine", "glu" if self.activation == "full_glu" else self.activation

    @property
    def capabilities(self) -> frozenset[Capability]:  # type: ignore[override]
        """All but a surrogate; a static gain only where there is one direction to add it to."""
        found = {Capability.SYSTEM, Capability.GRADIENT, Capability.MOMENTS, Capability.MODES}
        return frozenset(found if self.bidirectional else found | {Capability.GAIN})

    @property
    def causal(self) -> bool:
        return not self.bidirectional

    @property
    def conjugates(self) -> bool:
        return self.conj_sym

    def at_dims(self, dims: Sequence[int]) -> dict[str, Any]:
        """As many blocks of HiPPO as divide every size."""
        fits = (j for j in range(self.hippo_blocks, 0, -1) if not any(n % j for n in dims))
        return {"hippo_blocks": next(fits)}

    def layer_flops(self, state_dim: int) -> int:
        """4 N H for B; and in each direction 8 N for the recurrence and 4 N H for C."""
        n, directions = state_dim, 1 + self.bidirectional
        return 4 * n * self.width + directions * (8 * n + 4 * n * self.width)

    def layer_parameters(self, state_dim: int) -> int:
        """Lambda, which is complex, and the steps; B and C, which are complex; D."""
        n, directions = state_dim, 1 + self.bidirectional
        return 3 * n + 2 * (1 + directions) * n * self.width + self.width

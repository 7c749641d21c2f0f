"""The specs of models: a backbone around layers of one kind. Without torch, for a plan.

A spec says all that must be known of its layers before there are any: their FLOPs and parameters,
what they can do (`capabilities`), whether they can run, and which class they are of.
"""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from harness.spec import MOST_BLOCKS, Spec, SpecUnion, StateDim, StateDims

from .layers.capabilities import Capability

if TYPE_CHECKING:
    from .layers.base import Layer

DEFAULT_KIND = "lru"  # of a model that names none, as those of the first version do


class BackboneSpec(Spec):
    """The backbone, whatever its layers. `state_dim` is that of every block, or one per block: the
    states that each system of a layer keeps. Dropout draws a mask for `each` example, or one
    `shared` by the whole batch, as the published code does.

    How it is computed, rather than what: the `precision` of products (a recurrence is always in
    float32).
    """

    implementation: ClassVar[Any]  # the layer's class, or its name as MODULE:CLASS
    layer_options: ClassVar[tuple[str, ...]] = ()  # fields that its constructor takes by name
    capabilities: ClassVar[frozenset[Capability]] = frozenset()

    kind: str
    blocks: Annotated[int, Field(ge=1, le=MOST_BLOCKS)] = 2
    width: Annotated[int, Field(ge=1, le=65_536)] = 32
    state_dim: StateDim | StateDims = 64
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    dropout_mask: Literal["each", "shared"] = "each"
    norm: Literal["batch", "ema_batch", "none"] = "batch"
    mixer: Literal["glu", "linear"] = "glu"
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"

    @model_validator(mode="before")
    @classmethod
    def _equal_sizes_are_one(cls, values: Any) -> Any:
        # [64, 64] and 64 are the same model, so they must have the same identity.
        if isinstance(values, cls):
            values = dict(values)
        if isinstance(values, dict) and isinstance(values.get("state_dim"), list | tuple):
            dims = list(values["state_dim"])
            same = all(type(n) is int and n == dims[0] for n in dims)
            if dims and same and len(dims) == values.get("blocks", 2):
                return {**values, "state_dim": dims[0]}
        return values

    @model_validator(mode="after")
    def _one_size_a_block(self) -> BackboneSpec:
        if not isinstance(self.state_dim, int) and len(self.state_dim) != self.blocks:
            raise ValueError(
                f"state_dim lists {len(self.state_dim)} sizes for {self.blocks} blocks"
            )
        return self

    @property
    def state_dims(self) -> tuple[int, ...]:
        """The state dimension of every block."""
        if isinstance(self.state_dim, int):
            return (self.state_dim,) * self.blocks
        return self.state_dim

    @classmethod
    def layer_class(cls) -> type[Layer]:
        """The class of the layers; imports torch."""
        if not isinstance(cls.implementation, str):
            return cls.implementation
        module, _, name = cls.implementation.partition(":")
        return getattr(importlib.import_module(module), name)

    @abstractmethod
    def layer_flops(self, state_dim: int) -> int:
        """FLOPs of a layer's forward pass of one token, in the form of a recurrence."""

    @abstractmethod
    def layer_parameters(self, state_dim: int) -> int:
        """Real numbers in a freshly made layer."""

    def check_device(self, device: str) -> None:
        """Raise `ValueError` where the layers cannot be computed on this device as asked."""


class LRUSpec(BackboneSpec):
    """Linear Recurrent Units of N = `state_dim` complex states (Orvieto et al. 2023), their
    eigenvalues drawn from the ring between `r_min` and `r_max`.

    How it is computed: `backend` of the scan (see `harness.models.scans`), and what its backward
    pass is to `remember`.
    """

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
    backend: Literal["auto", "reference", "toeplitz", "scan", "associative", "triton"] = "auto"
    remember: Literal["auto", "states", "boundaries"] = "auto"

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

    def check_device(self, device: str) -> None:
        """As in the base; imports torch only where a backend needs a GPU."""
        if self.backend != "triton":
            return
        import torch

        from .scans.choice import triton_refusal

        reason = triton_refusal(torch.device(device))
        if reason is not None:
            raise ValueError(f"model.backend triton cannot run here: {reason}")


class GRUSpec(BackboneSpec):
    """Gated recurrent units of `state_dim` hidden states, and a projection back to the width: a
    baseline without any linear system (Cho et al. 2014, arXiv 1406.1078; as `torch.nn.GRU`)."""

    implementation: ClassVar[str] = "harness.models.layers.gru:GRU"

    kind: Literal["gru"] = "gru"

    def layer_flops(self, state_dim: int) -> int:
        """6 n (H + n) for the three gates, 2 n H for the projection, and 7 n for what the gates do
        to the state; biases and activations count nothing, as in the mixer."""
        n, H = state_dim, self.width
        return 6 * n * (H + n) + 2 * n * H + 7 * n

    def layer_parameters(self, state_dim: int) -> int:
        """Three gates with two biases each, and the projection."""
        n, H = state_dim, self.width
        return 3 * n * (H + n + 2) + H * (n + 1)


MODELS: tuple[type[BackboneSpec], ...] = (LRUSpec, GRUSpec)
MODEL_UNION = SpecUnion("kind", MODELS, default=DEFAULT_KIND)  # with those of plug-ins

if TYPE_CHECKING:
    AnyModel = BackboneSpec
else:
    AnyModel = Annotated[Any, MODEL_UNION]


def ModelSpec(**fields: Any) -> Any:
    """The validated spec of the model of this `kind` (default lru)."""
    return MODEL_UNION.validate(fields)


def with_dims(model: BackboneSpec, dims: Sequence[int]) -> Any:
    """The model's spec at these state dimensions, one per block."""
    return ModelSpec(**{**model.model_dump(), "state_dim": list(dims)})

"""The backbone's spec, and that of layers that a scan computes."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from harness.spec import MOST_BLOCKS, Spec, StateDim, StateDims

from ..layers.capabilities import Capability

if TYPE_CHECKING:
    from ..layers.base import Layer

Backend = Literal["auto", "reference", "toeplitz", "scan", "associative", "triton"]
Remember = Literal["auto", "states", "boundaries"]


class BackboneSpec(Spec):
    """The backbone, whatever its layers. `state_dim` is that of every block, or one per block: the
    states that each system of a layer keeps. Dropout draws a mask for `each` example, one
    `shared` by the whole batch, as the published code does, or one for each example that is `tied`
    over its steps, as S5's and S4's authors do.

    How it is computed, rather than what: the `precision` of products (a recurrence is always in
    float32).
    """

    implementation: ClassVar[Any]  # the layer's class, or its name as MODULE:CLASS
    layer_options: ClassVar[tuple[str, ...]] = ()  # fields that its constructor takes by name
    capabilities: ClassVar[frozenset[Capability]] = frozenset()
    # The fields that specs written before they existed do not have: not written at their defaults,
    # so that what is stored of those specs stays as it was.
    unsaid: ClassVar[frozenset[str]] = frozenset()

    kind: str
    blocks: Annotated[int, Field(ge=1, le=MOST_BLOCKS)] = 2
    width: Annotated[int, Field(ge=1, le=65_536)] = 32
    state_dim: StateDim | StateDims = 64
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    dropout_mask: Literal["each", "shared", "tied"] = "each"
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

    @model_serializer(mode="wrap")
    def _leaves_out_the_unsaid(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found = handler(self)
        for name in self.unsaid:
            if getattr(self, name) == type(self).model_fields[name].default:
                found.pop(name, None)
        return found

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

    @property
    def surroundings(self) -> tuple[str, str]:
        """The norm ahead of a layer, and the mixer after it; see `harness.models.blocks`."""
        return self.norm, self.mixer

    @property
    def ends_with_norm(self) -> bool:
        """Whether one more norm follows the last block."""
        return self.surroundings[1] == "none"

    def refuse_surroundings(self) -> None:
        """Raise `ValueError` if `norm` or `mixer` is set where a block has its own."""
        for name in ("norm", "mixer"):
            value = getattr(self, name)
            if value != type(self).model_fields[name].default:
                raise ValueError(f"{name} {value} belongs to block backbone, not to block authors")

    @property
    def causal(self) -> bool:
        """Whether no output depends on later inputs: only then is there a recurrent mode."""
        return True

    @property
    def conjugates(self) -> bool:
        """Whether each state stands for its conjugate, too (see `Layer.conjugates`)."""
        return False

    def at_dims(self, dims: Sequence[int]) -> dict[str, Any]:
        """The fields, beside the sizes, that differ in this model at these state dimensions."""
        return {}


class ScanSpec(BackboneSpec):
    """Layers that a scan computes. A subclass has, as the last of its fields, the `backend` of the
    scan (see `harness.models.scans`), and what its backward pass is to `remember`."""

    if TYPE_CHECKING:  # each spec's own
        backend: Any
        remember: Any

    def check_device(self, device: str) -> None:
        """As in the base; imports torch only where a backend needs a GPU."""
        if self.backend != "triton":
            return
        import torch

        from ..scans.choice import triton_refusal

        reason = triton_refusal(torch.device(device))
        if reason is not None:
            raise ValueError(f"model.backend triton cannot run here: {reason}")

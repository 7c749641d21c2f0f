"""The contract of a layer: what every layer inside a backbone is. What only some can do stands in
`capabilities`, what a plan must know before there is a layer in its spec (`harness.models.specs`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import nn

from ..scans.choice import Choice


class LayerState(NamedTuple):
    """What a layer remembers between two steps.

    tensors: what changes from step to step, (sequences, ...) each.
    fixed: what the layer has worked out from its weights for all steps, whatever that is.
    """

    tensors: tuple[torch.Tensor, ...]
    fixed: Any = None

    @property
    def bytes(self) -> int:
        """Memory of what changes."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors)


class Layer(nn.Module, ABC):
    """(batch, length, H) real to the same, causal; its state is zero before the first step.

    A layer is made anew by `of`, which draws from torch's global generator, and given stored
    weights by `resize`, then `expect`, then `load_state_dict`.
    """

    # Parameters, by their names in the layer, that train at the learning rate x ssm_lr_factor and
    # without weight decay; and those that train at the plain rate but without decay.
    ssm_parameters: ClassVar[tuple[str, ...]] = ()
    undecayed_parameters: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def of(cls, spec: Any, state_dim: int) -> Self:
        """A freshly initialised layer of this size, as the model's spec has it."""
        options = {name: getattr(spec, name) for name in spec.layer_options}
        return cls(spec.width, state_dim, **options)

    @classmethod
    def backend_of(
        cls, spec: Any, state_dim: int, *, length: int, batch: int, device: torch.device | str
    ) -> Choice:
        """What computes `forward` of so many sequences on this device, and why.

        Raises:
            ValueError: a backend asked for by name that cannot run there.
        """
        return Choice("torch", f"{cls.__name__} has no scan of its own")

    @classmethod
    def warm_up(cls) -> None:
        """Compile, or load, what no training step should have to wait for."""

    @property
    @abstractmethod
    def state_dim(self) -> int:
        """The states that each of the layer's systems keeps; the most, where they differ."""

    @abstractmethod
    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """(batch, length, H) to the same."""

    @abstractmethod
    def initial_state(self, sequences: int, device: torch.device | str | None = None) -> LayerState:
        """Recurrent mode: the state before the first step, on `device` or the layer's own."""

    @abstractmethod
    def step(self, u: torch.Tensor, state: LayerState) -> tuple[torch.Tensor, LayerState]:
        """Recurrent mode: one step of `forward` in evaluation mode, (sequences, H) to the same, and
        the state after it; the state that is given stays as it is. Nobody asks for gradients."""

    @abstractmethod
    def resize(self, state_dim: int) -> None:
        """Empty parameters of another size, to load stored values into; frozen where the old were.

        Raises:
            ValueError: a size below 1.
        """

    def expect(self, stored: Collection[str]) -> None:
        """Make room for those of the stored tensors, by their names in the layer, that a fresh
        layer does not have. Of parameters only `gain` may come so: it joins D's group of an
        optimizer (`capabilities.TakesGain`)."""


def check_state_dim(state_dim: int) -> None:
    """Raise `ValueError` for a size below 1."""
    if state_dim < 1:
        raise ValueError(f"a state dimension must be at least 1, not {state_dim}")


__all__ = ["Choice", "Layer", "LayerState", "check_state_dim"]

"""The contract of every layer in a backbone. `capabilities` lists what only some layers can do;
what a plan must know without a layer is in the model's spec (`harness.models.specs`).
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
    fixed: anything that the layer has computed from its weights for all steps.
    """

    tensors: tuple[torch.Tensor, ...]
    fixed: Any = None

    @property
    def bytes(self) -> int:
        """Bytes of what changes."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors)


class Layer(nn.Module, ABC):
    """(batch, length, H) real to the same, causal unless the spec says otherwise; its state is zero
    before the first step.

    `of` makes a new layer, drawing from torch's global generator; `resize`, `expect` and
    `load_state_dict`, in this order, give it stored weights.
    """

    # Parameters, by their names in the layer, that train at the learning rate x ssm_lr_factor and
    # without weight decay; and those that train at the plain rate but without decay.
    ssm_parameters: ClassVar[tuple[str, ...]] = ()
    undecayed_parameters: ClassVar[tuple[str, ...]] = ()

    # Whether each state stands for its conjugate, too: the layer's system is a real one, of which
    # `system` gives one state of every conjugate pair, and reductions take it as such.
    conjugates: bool = False

    @classmethod
    def of(cls, spec: Any, state_dim: int) -> Self:
        """A freshly initialised layer of this size, from the model's spec."""
        options = {name: getattr(spec, name) for name in spec.layer_options}
        return cls(spec.width, state_dim, **options)

    @classmethod
    def backend_of(
        cls, spec: Any, state_dim: int, *, length: int, batch: int, device: torch.device | str
    ) -> Choice:
        """The backend of `forward` for this batch on this device, and why.

        Raises:
            ValueError: a backend requested by name cannot run there.
        """
        return Choice("torch", f"{cls.__name__} has no scan of its own")

    @classmethod
    def warm_up(cls) -> None:
        """Compile or load what training steps should not wait for."""

    @property
    @abstractmethod
    def state_dim(self) -> int:
        """The states of each of the layer's systems; the largest if they differ."""

    @abstractmethod
    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """(batch, length, H) to the same."""

    @abstractmethod
    def initial_state(self, sequences: int, device: torch.device | str | None = None) -> LayerState:
        """Recurrent mode: the state before the first step, on `device` or the layer's own.

        Raises:
            ValueError: a layer that is not causal has no recurrent mode.
        """

    @abstractmethod
    def step(self, u: torch.Tensor, state: LayerState) -> tuple[torch.Tensor, LayerState]:
        """Recurrent mode: one step of `forward` in evaluation mode, (sequences, H) to the same, and
        the state after it; the given state is unchanged. Gradients are not needed."""

    @abstractmethod
    def resize(self, state_dim: int) -> None:
        """Empty parameters of another size, to load stored values into; frozen if the old were.

        Raises:
            ValueError: a size below 1.
        """

    def expect(self, stored: Collection[str]) -> None:
        """Make room for stored tensors (names within the layer) that a fresh layer does not have,
        and drop what is not stored, as where a model goes back to before a truncation. The only
        such parameter may be `gain`; it joins the optimizer group of D (`capabilities.TakesGain`).
        """


def check_state_dim(state_dim: int) -> None:
    """Raise `ValueError` for a size below 1."""
    if state_dim < 1:
        raise ValueError(f"a state dimension must be at least 1, not {state_dim}")


__all__ = ["Choice", "Layer", "LayerState", "check_state_dim"]

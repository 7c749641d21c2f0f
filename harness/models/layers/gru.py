"""A gated recurrence (Cho et al. 2014, arXiv 1406.1078): a baseline without any linear system."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from .base import Layer, LayerState, check_state_dim


class GRU(Layer):
    """h_k = GRU(u_k, h_{k-1}) of n hidden states, y_k = W h_k + b: `torch.nn.GRU` and a projection.

    The projection makes n free of the width, as N is in a state-space layer, so that both are
    compared at equal states; a GRU alone gives n channels. It has no skip connection like the D of
    an LRU; the block has one. Parameters as torch names and initialises them, in `recurrence`
    weight_ih_l0 (3 n, H), weight_hh_l0 (3 n, n) and two biases (3 n,), in `projection` weight
    (H, n) and bias (H,).
    """

    undecayed_parameters: ClassVar = ("recurrence.bias_ih_l0", "recurrence.bias_hh_l0")

    def __init__(self, width: int, state_dim: int):
        super().__init__()
        self.recurrence = nn.GRU(width, state_dim, batch_first=True)
        self.projection = nn.Linear(state_dim, width)

    @property
    def state_dim(self) -> int:
        """n, the hidden states, which are real."""
        return self.recurrence.hidden_size

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """(batch, length, H) to the same, h = 0 before the first step; the recurrence, its products
        too, in the precision of the parameters."""
        with torch.autocast(u.device.type, enabled=False):
            hidden, _ = self.recurrence(u.to(self.projection.weight.dtype))
        return self.projection(hidden)

    def initial_state(self, sequences: int, device: torch.device | str | None = None) -> LayerState:
        """Zeros, and the weights on that device."""
        here = [p.detach().to(device) for p in self.recurrence.parameters()]
        out = [p.detach().to(device) for p in self.projection.parameters()]
        return LayerState((here[0].new_zeros(sequences, self.state_dim),), (here, out))

    def step(self, u: torch.Tensor, state: LayerState) -> tuple[torch.Tensor, LayerState]:
        """By the weights that the layer had when the state was begun."""
        recurrence, projection = state.fixed
        h = torch.gru_cell(u, state.tensors[0], *recurrence)
        return nn.functional.linear(h, *projection), LayerState((h,), state.fixed)

    def resize(self, state_dim: int) -> None:
        """See `Layer`."""
        check_state_dim(state_dim)
        width = self.recurrence.input_size
        with torch.device("meta"):  # where initialising draws no number
            self._replace("recurrence", nn.GRU(width, state_dim, batch_first=True))
            self._replace("projection", nn.Linear(state_dim, width))

    def _replace(self, name: str, new: nn.Module) -> None:
        """Another module in the place of one, with empty parameters."""
        old = dict(getattr(self, name).named_parameters())
        like = next(iter(old.values()))
        new.to(like.dtype).to_empty(device=like.device).train(self.training)
        for key, parameter in new.named_parameters():
            parameter.requires_grad_(old[key].requires_grad)
        setattr(self, name, new)
